/** Examples, most of them from the lecture: an address each. */
import type { Words } from "../../i18n/ru";

const MATRIX = "3 3 2 1 0; 0 0 1 3 1; 3 1 2 2 3; 2 0 0 2 2; 2 0 0 0 1";
const KERNEL = "0 1 2; 2 2 0; 0 1 2";
const SMALL = { x: "1 2 3; 3 4 5; 1 0 2", k: "0 1; 1 -1" };

export const PRESETS: { name: keyof Words["presets"]; query: Record<string, string> }[] = [
  { name: "signal", query: { x: "1 2 3 4 5 5 4 3 2 1", k: "-1 0 1" } },
  { name: "mirror", query: { x: "1 2 3 4 5", k: "-1 0 2 0 -1", p: "2:2", m: "symmetric" } },
  { name: "small", query: SMALL },
  { name: "steps", query: { x: MATRIX, k: KERNEL } },
  { name: "strided", query: { x: MATRIX, k: KERNEL, s: "2", p: "1:1,1:1" } },
  { name: "same", query: { ...SMALL, p: "same_upper" } },
  { name: "cross", query: { x: "1 2 3 1 0; 3 4 5 2 1; 1 0 2 3 4; 0 1 3 1 2; 1 2 4 2 3", k: "0 1 0; 1 0 -1; 0 -1 0", s: "2" } },
  { name: "dilated", query: { x: "0 0 0 0 0 0 0; 0 1 1 1 1 1 0; 0 1 2 2 2 1 0; 0 1 2 3 2 1 0; 0 1 2 2 2 1 0; 0 1 1 1 1 1 0; 0 0 0 0 0 0 0", k: "1 0 -1; 2 0 -2; 1 0 -1", d: "2", p: "1:1,1:1", m: "replicate" } },
  { name: "transposed", query: { x: "1 2; 3 4", k: "1 2 1; 2 4 2; 1 2 1", s: "2", t: "1" } },
  { name: "groups", query: { x: "1 2 3 4; 2 3 4 5; 3 4 5 6; 4 5 6 7 | 1 0 1 0; 0 1 0 1; 1 0 1 0; 0 1 0 1", k: "0 1 0; 1 -4 1; 0 1 0 | 1 1 1; 1 1 1; 1 1 1", f: "2", g: "2" } },
];
