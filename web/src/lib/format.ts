/** Numbers as people write them: whole ones plain, others to three digits, a real minus, in Russian a comma. */
import { settings } from "./settings.svelte";

const MINUS = "\u2212";

/** With the decimal mark of the reader's language. */
export const marked = (text: string): string => (settings.language === "ru" ? text.replace(".", ",") : text);

/** Numbers one after another: a semicolon where the comma is a decimal mark. */
export const listed = (parts: string[]): string => parts.join(settings.language === "ru" ? "; " : ", ");

export function number(value: number | null, digits = 3): string {
  return value === null ? "" : marked(plain(value, digits));
}

function plain(value: number, digits: number): string {
  const size = Math.abs(value);
  const sign = value < 0 ? MINUS : "";
  const whole = Math.round(size);
  if (Math.abs(size - whole) <= 1e-12 * size && whole < 1e6) return sign + whole;
  if (size >= 1e6 || size < 1e-3) {
    const [mantissa, exponent] = size.toExponential(1).split("e");
    return `${sign}${mantissa.replace(/\.0$/, "")}e${exponent.replace("+", "").replace("-", MINUS)}`;
  }
  const places = size >= 1000 ? 0 : Math.min(Math.max(1, digits - 1 - Math.floor(Math.log10(size))), 4);
  const text = size.toFixed(places);
  return sign + (places ? text.replace(/0+$/, "").replace(/\.$/, ".0") : text);
}

/** As a factor: negative ones in brackets. */
export function factor(value: number | null): string {
  const text = number(value);
  return text.startsWith(MINUS) ? `(${text})` : text;
}

/** What somebody typed, as a number; null if it is none. */
export function typed(text: string): number | null {
  const clean = text.trim().replace(/[\u2212\u2013]/g, "-").replace(",", ".");
  const fraction = /^([+-]?\d+(?:\.\d+)?)\/(\d+(?:\.\d+)?)$/.exec(clean);
  const value = fraction ? Number(fraction[1]) / Number(fraction[2]) : Number(clean);
  return clean === "" || !Number.isFinite(value) || Math.abs(value) > 1e9 ? null : value;
}

/** 12 345 678, with thin unbroken spaces. */
export function grouped(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

/** Planes of numbers in the grammar of matrices that the library reads. */
export function written(planes: number[][][], ndim: number): string {
  const row = (values: number[]) => values.map((v) => String(v)).join(" ");
  return planes
    .map((plane) => (ndim === 1 ? row(plane[0]) : plane.map(row).join("; ") + (plane.length === 1 ? ";" : "")))
    .join(" | ");
}
