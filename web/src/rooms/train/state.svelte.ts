/** The settings as the reader types them, as a request and as an address; and the training that the server tells of. */
import type { Progress, TrainAsked } from "../../api/schema";
import { typed } from "../../lib/format";

export const FIELDS = ["epochs", "batch_size", "lr", "seed", "shift", "crop", "contrast"] as const;
export type Field = (typeof FIELDS)[number];
export type Augmentation = NonNullable<TrainAsked["augmentation"]>;

/** What a field may hold, for the sentence about something that is no number at all. */
const LIMITS: Record<Field, number[]> = {
  epochs: [1, 1000],
  batch_size: [1, 4096],
  lr: [10],
  seed: [0, 2147483647],
  shift: [0, 4],
  crop: [90],
  contrast: [100],
};

export class Wishes {
  data = $state("digits");
  model = $state("lenet");
  optimizer = $state("");
  augmentation = $state<Augmentation>("suited");
  flip = $state(false);
  texts = $state<Record<Field, string>>({ epochs: "", batch_size: "", lr: "", seed: "", shift: "", crop: "", contrast: "" });

  /** The first field whose text is no number. */
  get unreadable(): { kind: string; numbers: number[] } | null {
    const seen = this.augmentation === "own" ? FIELDS : FIELDS.slice(0, 4);
    const field = seen.find((name) => this.texts[name].trim() && typed(this.texts[name]) === null);
    return field ? { kind: `train-${field.replace("_", "-")}`, numbers: LIMITS[field] } : null;
  }

  get request(): TrainAsked {
    const value = (field: Field, unit = 1) => {
      const found = typed(this.texts[field]);
      return found === null ? null : found / unit;
    };
    const own = this.augmentation === "own";
    return {
      data: this.data,
      model: this.model,
      optimizer: this.optimizer || null,
      epochs: value("epochs"),
      batch_size: value("batch_size"),
      lr: value("lr"),
      seed: value("seed"),
      augmentation: this.augmentation,
      flip: this.flip,
      shift: own ? value("shift") : null,
      crop: own ? value("crop", 100) : null,
      contrast: own ? value("contrast", 100) : null,
    };
  }

  get query(): URLSearchParams {
    const query = new URLSearchParams();
    const put = (name: string, value: string, usual: string) => value !== usual && query.set(name, value);
    put("data", this.data, "digits");
    put("model", this.model, "lenet");
    put("optimizer", this.optimizer, "");
    put("changes", this.augmentation, "suited");
    put("flip", this.flip ? "1" : "", "");
    for (const field of FIELDS) put(field, this.texts[field].trim(), "");
    return query;
  }

  read(query: URLSearchParams): void {
    this.data = query.get("data") ?? "digits";
    this.model = query.get("model") ?? "lenet";
    this.optimizer = query.get("optimizer") ?? "";
    const changes = query.get("changes");
    this.augmentation = changes === "none" || changes === "own" ? changes : "suited";
    this.flip = query.get("flip") === "1";
    for (const field of FIELDS) this.texts[field] = (query.get(field) ?? "").slice(0, 20);
  }
}

/** Follows the training in hand as long as the page is seen: a hidden page would hold a connection for nothing. */
export class Following {
  progress = $state.raw<Progress | null>(null);
  lost = $state(false);
  #source: EventSource | null = null;

  constructor(readonly ended: () => void) {}

  watch(): () => void {
    const turn = () => (document.hidden ? this.#close() : this.#open());
    document.addEventListener("visibilitychange", turn);
    turn();
    return () => {
      document.removeEventListener("visibilitychange", turn);
      this.#close();
    };
  }

  /** Takes in a message: a whole, or what is new. */
  #take(news: Progress): void {
    const before = this.progress;
    this.lost = false;
    this.progress =
      news.fresh || !before
        ? { ...news, answers: news.answers ?? (news.run === before?.run ? before.answers : null) }
        : {
            ...news,
            points: [...before.points, ...news.points],
            history: [...before.history, ...news.history],
            answers: news.answers ?? before.answers,
          };
    if (before && busy(before) && !busy(this.progress)) this.ended();
  }

  #open(): void {
    if (this.#source) return;
    this.#source = new EventSource("/api/training/events");
    this.#source.onmessage = (event) => this.#take(JSON.parse(event.data) as Progress);
    this.#source.onerror = () => (this.lost = true);
  }

  #close(): void {
    this.#source?.close();
    this.#source = null;
  }
}

export const busy = (progress: Progress | null): boolean =>
  progress !== null && ["starting", "running", "stopping"].includes(progress.phase);
