/** Всё, что написано на странице. Английский словарь обязан иметь те же поля. */
import type { Problem } from "../api/schema";

const rules = new Intl.PluralRules("ru");

/** 1 выход, 2 выхода, 5 выходов. */
function many(count: number, one: string, few: string, others: string): string {
  return { one, few, many: others, other: others, zero: others, two: few }[rules.select(count)];
}

const problems: Record<string, (n: number[]) => string> = {
  "no-window": ([extent, n, before, after]) =>
    `Ядро протяжённостью ${extent} не помещается во вход с отступами: ${n} + ${before} + ${after}. Увеличьте вход или отступ либо уменьшите ядро.`,
  groups: ([planes, inputs, groups]) =>
    `${planes} ${many(planes, "ядро", "ядра", "ядер")} при ${inputs} ${many(inputs, "канале", "каналах", "каналах")} не делятся на ${groups} ${many(groups, "группу", "группы", "групп")}.`,
  axes: () => "У входа и ядра разное число осей: задайте либо два сигнала, либо две матрицы.",
  "too-many-cells": ([cells]) => `Клеток получается ${cells} — столько не разглядеть. Возьмите вход поменьше.`,
  "too-many-terms": () => "Слагаемых слишком много, чтобы показать каждое. Возьмите вход или ядро поменьше.",
  "too-large": () => "Числа слишком большие: возьмите поменьше.",
  "no-picture": () => "Этот файл не открывается как картинка. Подойдут PNG, JPEG, WebP, GIF, BMP, TIFF.",
  "picture-size": ([height, width]) => `В картинке ${height} × ${width} точек — слишком много. Уменьшите её.`,
  offline: () => "Лаборатория не отвечает. Запустите её ещё раз: svertka lab.",
};

export const ru = {
  lab: "Лаборатория",
  title: (room: string) => `${room} — лаборатория Svertka`,
  rooms: { convolution: "Свёртка" },
  nav: "Комнаты",
  skip: "К содержанию",
  theme: "Тема",
  themes: { light: "светлая", dark: "тёмная", system: "как в системе" },
  language: "In English",
  problem: (problem: Problem): string =>
    problems[problem.kind]?.(problem.numbers) ?? `Библиотека отвечает: ${problem.message}.`,

  back: "Шаг назад",
  on: "Шаг вперёд",
  play: "Показать по шагам",
  pause: "Пауза",
  step: "Шаг",

  copy: "Скопировать",
  copied: "Скопировано",
  link: "Ссылка на этот опыт",
  download: "Скачать",

  convolution: {
    lede: "Ядро едет по входу. В каждом положении числа под ним умножаются на веса и складываются — получается одно число выхода.",
    input: "Вход",
    kernel: "Ядро",
    output: "Выход",
    channel: (c: number) => `канал ${c}`,
    filter: (c: number) => `фильтр ${c}`,
    forChannel: (c: number) => `для канала ${c}`,
    kernelFor: (c: number) => `Ядро фильтра ${c}`,
    hint: "Наведите на выход — увидите его окно и слагаемые. Наведите на вход — увидите всё, что от него зависит. Числа можно менять.",
    hintTouch: "Коснитесь выхода — увидите его окно и слагаемые. Коснитесь входа — увидите, что от него зависит; числа можно менять.",
    drag: "Потяните окно",
    seen: (value: string, row: number, column: number, count: number) =>
      count === 0
        ? `Число ${value} в строке ${row}, столбце ${column} не видит ни один выход.`
        : `Число ${value} в строке ${row}, столбце ${column} ${many(count, "видит", "видят", "видят")} ${count} ${many(count, "выход", "выхода", "выходов")}. В углу — вес, с которым оно входит в каждый.`,
    more: (count: number) => `ещё ${count} ${many(count, "слагаемое", "слагаемых", "слагаемых")}`,
    bias: "смещение",
    settings: "Настройки",
    examples: "Примеры",
    dimension: "Размерность",
    dimensions: { 1: "сигнал, 1-D", 2: "матрица, 2-D" },
    eachAxis: "Оси по отдельности",
    size: "Вход",
    channels: "Каналы",
    kernelSize: "Ядро",
    filters: "Фильтры",
    groups: "Группы",
    stride: "Шаг",
    dilation: "Растяжение",
    before: "Отступ до",
    after: "Отступ после",
    padding: "Отступ",
    named: { valid: "числом", same_upper: "SAME", same_lower: "SAME в начале" },
    mode: "Что стоит за краем",
    modes: {
      zeros: "нули",
      replicate: "крайнее число",
      symmetric: "зеркало",
      reflect: "зеркало без края",
      circular: "по кругу",
    },
    rows: "↕",
    columns: "↔",
    transposed: "Транспонированная",
    outputPadding: "Добавить в конце",
    flip: "Перевернуть ядро",
    flipNote: "Так свёртку понимают в математике. В нейросетях ядро не переворачивают.",
    withBias: "Смещение (bias)",
    shade: "Оттенки серого",
    asText: "Ввести числа текстом",
    asTextNote: "Строки — через точку с запятой, каналы — через вертикальную черту.",
    apply: "Применить",
    picture: "Взять картинку",
    pictureNote: "Картинка уменьшится до размера входа.",
    facts: "Размер и цена",
    outputSize: "Размер выхода",
    height: "высота",
    width: "ширина",
    weights: "весов",
    macs: "умножений-сложений",
    kinds: {
      convolution: "свёртка",
      unshared: "без разделения весов",
      dense: "полносвязный слой",
      separable: "разделимая свёртка",
    },
    cost: "Та же пара вход — выход разными слоями",
    kind: "Слой",
    matrix: "Свёртка — это матрица",
    matrixNote:
      "Вход вытянут в строку сверху. Каждая строка матрицы — ядро, поставленное на своё место; её произведение со входом — число справа. Пустые клетки — нули.",
    matrixTooLarge: "Матрица слишком велика для страницы. Уменьшите вход, и она появится.",
    show: "В клетках",
    numbers: "числа",
    names: "имена весов",
    transposedNote: "Транспонированная матрица переносит градиент с выхода на вход.",
    code: "То же на PyTorch",
    export: "Анимация",
  },
  presets: {
    signal: "1-D: −1 0 1",
    mirror: "зеркальный отступ",
    small: "3×3 на 2×2",
    steps: "по шагам",
    strided: "шаг 2, отступ 1",
    same: "SAME",
    cross: "шаг 2",
    dilated: "растяжение",
    transposed: "транспонированная",
    groups: "две группы",
  },
};

export type Words = typeof ru;
