/** Planes of numbers as the reader edits them, and as text. */
export type Planes = number[][][];

/** A pattern of small numbers for cells that are new: always the same, so that an address says enough. */
export const fresh = (plane: number, row: number, column: number): number =>
  (plane * 3 + row * 5 + column * 7 + ((row * column) % 3)) % 4;

export function resized(
  planes: Planes,
  count: number,
  rows: number,
  columns: number,
  fill: (plane: number, row: number, column: number) => number,
): Planes {
  return Array.from({ length: count }, (_, p) =>
    Array.from({ length: rows }, (_, r) => Array.from({ length: columns }, (_, c) => planes[p]?.[r]?.[c] ?? fill(p, r, c))),
  );
}

/** Planes from the text that `written` makes; null for anything else. */
export function parsed(text: string | null): { planes: Planes; ndim: number } | null {
  if (!text?.trim()) return null;
  const ndim = text.includes(";") ? 2 : 1;
  const planes = text.split("|").map((plane) =>
    plane
      .split(";")
      .filter((row) => row.trim())
      .map((row) => row.trim().split(/[\s,]+/).map(Number)),
  );
  const [rows, columns] = [planes[0].length, planes[0][0]?.length];
  const even = planes.every((plane) => plane.length === rows && plane.every((row) => row.length === columns && row.every(Number.isFinite)));
  return columns && even ? { planes, ndim } : null;
}

/** A whole number from an address, within bounds. */
export function whole(text: string | null, least: number, most: number, usual: number): number {
  const value = Number(text ?? NaN);
  return Number.isInteger(value) && text !== "" ? Math.max(least, Math.min(most, value)) : usual;
}

/** One number for all axes where they are alike. */
export function same(values: number[]): string {
  return values.every((value) => value === values[0]) ? String(values[0]) : values.join(",");
}

/** The value at an axis, set; axis −1 stands for all. */
export function placed<T>(values: T[], axis: number, value: T): T[] {
  return values.map((old, i) => (axis < 0 || i === axis ? value : old));
}
