/** Looks a hover up in the table of an experiment: nothing is computed here, only found. */
import type { Stage } from "../api/schema";
import type { Frame } from "./Cells.svelte";
import { number } from "./format";

export interface Term {
  cell: number;
  weight: number;
  value: number | null;
  factor: number | null;
  product: number | null;
  chosen: boolean;
}

/** The terms of one output, in the library's order. */
export function termsOf(stage: Stage, output: number): Term[] {
  const { starts, cells, weights, factors, products, chosen } = stage.terms;
  const found: Term[] = [];
  for (let i = starts[output]; i < starts[output + 1]; i++) {
    found.push({
      cell: cells[i],
      weight: weights[i],
      value: stage.drawn.values[cells[i]],
      factor: factors[i],
      product: products[i],
      chosen: chosen[i] === 1,
    });
  }
  return found;
}

/** The outputs that see an input, and through which factor. */
export function readersOf(stage: Stage, source: number): Map<number, string> {
  const { starts, outputs } = stage.readers;
  const found = new Map<number, string>();
  for (const output of outputs.slice(starts[source], starts[source + 1])) {
    const through = termsOf(stage, output).filter((term) => stage.drawn.sources[term.cell] === source);
    const known = through.filter((term) => term.factor !== null);
    found.set(output, known.length === 1 ? number(known[0].factor) : known.length ? "+" : "");
  }
  return found;
}

/** The outline of a window in each plane that it touches. */
export function framesOf(stage: Stage, terms: Term[]): Map<number, Frame> {
  const { rows, columns } = stage.drawn;
  const boxes = new Map<number, [number, number, number, number]>();
  for (const { cell } of terms) {
    const [plane, row, column] = [Math.floor(cell / (rows * columns)), Math.floor(cell / columns) % rows, cell % columns];
    const box = boxes.get(plane) ?? [row, row, column, column];
    boxes.set(plane, [Math.min(box[0], row), Math.max(box[1], row), Math.min(box[2], column), Math.max(box[3], column)]);
  }
  return new Map(
    [...boxes].map(([plane, [top, bottom, left, right]]) => [
      plane,
      { row: top, column: left, rows: bottom - top + 1, columns: right - left + 1 },
    ]),
  );
}

/** Of the outputs of one channel, that whose window's middle is nearest to a place of the drawing. */
export function nearest(stage: Stage, channel: number, row: number, column: number): number {
  const size = stage.output.rows * stage.output.columns;
  let [best, least] = [channel * size, Infinity];
  for (let output = channel * size; output < (channel + 1) * size; output++) {
    const frame = framesOf(stage, termsOf(stage, output)).values().next().value;
    if (!frame) continue;
    const distance = (frame.row + frame.rows / 2 - row) ** 2 + (frame.column + frame.columns / 2 - column) ** 2;
    if (distance < least) [best, least] = [output, distance];
  }
  return best;
}

/** The number of the drawn cell at which an input itself stands. */
export function ownCells(stage: Stage): Map<number, number> {
  const found = new Map<number, number>();
  stage.drawn.kinds.forEach((kind, cell) => kind === 0 && found.set(stage.drawn.sources[cell], cell));
  return found;
}

/** The span of values, for shades. */
export function span(values: (number | null)[]): [number, number] {
  const known = values.filter((value): value is number => value !== null);
  return known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
}
