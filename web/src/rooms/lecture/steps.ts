/** The lecture's order: its slides, and the experiment that belongs to each. */
import type { Words } from "../../i18n/ru";

export type Figure =
  | { kind: "pixels" }
  | { kind: "costs"; layer: [number, number, number, number, boolean]; dense: boolean }
  | { kind: "x" }
  | { kind: "convolution"; query: Record<string, string>; matrix?: boolean }
  | { kind: "paddings" }
  | { kind: "filters"; names: string[] }
  | { kind: "who" }
  | { kind: "inside" }
  | { kind: "pooling"; query: Record<string, string>; kinds: string[] };

export interface Step {
  name: keyof Words["steps"];
  slide: string;
  figure: Figure;
  /** Where it can be tried. */
  room: string;
  /** Where what it speaks of is learnt. */
  trained?: string;
}

const MATRIX = "3 3 2 1 0; 0 0 1 3 1; 3 1 2 2 3; 2 0 0 2 2; 2 0 0 0 1";
const KERNEL = "0 1 2; 2 2 0; 0 1 2";
const SMALL = { x: "1 2 3; 3 4 5; 1 0 2", k: "0 1; 1 -1" };
const SPOTS = "0 1 0 2 1 1 0 0; 0 9 1 2 1 0 7 2; 2 1 1 0 0 1 0 0; 2 1 1 0 0 1 1 2; 2 1 0 2 1 2 1 2; 0 6 0 1 1 8 2 1; 0 1 2 2 1 2 0 1; 1 2 1 1 1 0 0 1";

const to = (room: string, query: Record<string, string>) => `#/${room}?${new URLSearchParams(query)}`;
const convolution = (query: Record<string, string>, matrix = false) => ({
  figure: { kind: "convolution", query, matrix } as Figure,
  room: to("convolution", query),
});
const pooling = (query: Record<string, string>, kinds: string[]) => ({
  figure: { kind: "pooling", query, kinds } as Figure,
  room: to("pooling", query),
});

export const STEPS: Step[] = [
  { name: "image", slide: "1", figure: { kind: "pixels" }, room: "#/filters" },
  { name: "many", slide: "3", figure: { kind: "costs", layer: [3, 3, 256, 3, true], dense: true }, room: "#/layers?layer=3,3,256,3,1,1,1" },
  { name: "x", slide: "4", figure: { kind: "x" }, room: "#/filters" },
  { name: "signal", slide: "5", ...convolution({ x: "1 2 3 4 5 5 4 3 2 1", k: "-1 0 1" }) },
  { name: "padding", slide: "6", figure: { kind: "paddings" }, room: "#/layers" },
  { name: "plane", slide: "7", ...convolution(SMALL) },
  { name: "steps", slide: "8", ...convolution({ x: MATRIX, k: KERNEL }) },
  { name: "strided", slide: "8", ...convolution({ x: MATRIX, k: KERNEL, s: "2", p: "1:1,1:1" }) },
  { name: "channels", slide: "9", ...convolution({ x: "1 2 0; 0 1 3; 2 1 1 | 0 1 1; 1 0 2; 1 1 0", k: "1 0; 0 1 | 0 1; 1 0" }) },
  { name: "filters", slide: "10", figure: { kind: "filters", names: ["gradient-x", "gradient-y", "edges", "gaussian-blur", "sharpen", "corners"] }, room: "#/filters", trained: "#/train" },
  { name: "same", slide: "12", ...convolution({ ...SMALL, p: "same_upper" }) },
  { name: "stride", slide: "13", ...convolution({ x: "1 2 3 1 0; 3 4 5 2 1; 1 0 2 3 4; 0 1 3 1 2; 1 2 4 2 3", k: "0 1 0; 1 0 -1; 0 -1 0", s: "2" }) },
  { name: "dilated", slide: "14", ...convolution({ x: MATRIX, k: KERNEL, d: "2" }) },
  { name: "matrix", slide: "15", ...convolution(SMALL, true) },
  { name: "who", slide: "16", figure: { kind: "who" }, room: "#/layers" },
  { name: "average", slide: "17", ...pooling({ x: MATRIX, n: "3", s: "1" }, ["average"]) },
  { name: "shift", slide: "17", ...pooling({ x: SPOTS, n: "4", s: "4", shift: "0,1" }, ["max", "average"]) },
  { name: "kinds", slide: "18–19", ...pooling({ x: MATRIX, n: "3", s: "2" }, ["max", "norm", "stochastic"]) },
  { name: "tensor", slide: "23", figure: { kind: "costs", layer: [3, 6, 32, 5, false], dense: false }, room: "#/layers" },
  { name: "features", slide: "24", figure: { kind: "inside" }, room: "#/network", trained: "#/train" },
  { name: "separable", slide: "28–29", figure: { kind: "costs", layer: [3, 16, 128, 3, true], dense: false }, room: "#/layers?layer=3,16,128,3,1,1,1" },
];
