/** The poolings as the reader set them, as a request, and as an address. */
import type { PoolingAsked } from "../../api/schema";
import { written } from "../../lib/format";
import { fresh, parsed, resized, same, whole, type Planes } from "../../lib/planes";

type Mode = NonNullable<PoolingAsked["mode"]>;

export const EXAMPLE = "1 1 2 0 0 1; 5 6 3 2 1 0; 2 1 0 1 3 2; 0 2 7 4 1 1; 1 0 2 3 0 2; 3 1 1 0 4 1";

export class Poolings {
  x = $state<Planes>(parsed(EXAMPLE)!.planes);
  ndim = $state(2);
  size = $state([2, 2]);
  stride = $state([2, 2]);
  padding = $state(0);
  mode = $state<Mode>("zeros");
  /** Output size, where it is given in place of windows; 0 for windows. */
  outputs = $state(0);
  p = $state(2);
  seed = $state<number | null>(null);
  k = $state(3);
  segments = $state(3);
  shift = $state([0, 0]);
  weights = $state<number[][] | null>(null);

  get request(): PoolingAsked {
    const axes = (values: number[]) => (this.ndim === 1 ? values.slice(-1) : values.slice());
    return {
      input: written($state.snapshot(this.x), this.ndim),
      size: axes(this.size),
      stride: axes(this.stride),
      padding: [[this.padding, this.padding]],
      mode: this.mode,
      outputs: this.outputs ? [this.outputs] : null,
      weights: this.weights ? written([$state.snapshot(this.weights)], this.ndim) : null,
      p: this.p > 8 ? null : this.p,
      seed: this.seed,
      k: this.k,
      segments: this.segments,
      shift: axes(this.shift),
    };
  }

  setSide(side: number): void {
    this.x = resized(this.x, 1, this.ndim === 1 ? 1 : side, side, fresh);
  }

  setSize(size: number): void {
    this.size = [size, size];
    this.weights = null;
  }

  setNdim(ndim: number): void {
    this.ndim = ndim;
    this.weights = null;
    this.x = ndim === 1 ? resized([[this.x[0][1] ?? this.x[0][0]]], 1, 1, 8, fresh) : parsed(EXAMPLE)!.planes;
  }

  get query(): URLSearchParams {
    const query = new URLSearchParams({ x: written($state.snapshot(this.x), this.ndim) });
    const put = (name: string, value: string, usual: string) => value !== usual && query.set(name, value);
    put("n", same(this.size), "2");
    put("s", same(this.stride), "2");
    put("pad", String(this.padding), "0");
    put("m", this.mode, "zeros");
    put("to", String(this.outputs), "0");
    put("p", String(this.p), "2");
    put("seed", this.seed === null ? "" : String(this.seed), "");
    put("k", String(this.k), "3");
    put("parts", String(this.segments), "3");
    put("shift", this.shift.join(","), "0,0");
    put("w", this.weights ? written([$state.snapshot(this.weights)], this.ndim) : "", "");
    return query;
  }

  read(query: URLSearchParams): void {
    const x = parsed(query.get("x"));
    if (!x) return;
    this.x = x.planes.slice(0, 1);
    this.ndim = x.ndim;
    const pair = (name: string, usual: number, least: number, most: number) => {
      const parts = (query.get(name) ?? String(usual)).split(",").map((part) => whole(part, least, most, usual));
      return parts.length === 1 ? [parts[0], parts[0]] : parts.slice(0, 2);
    };
    this.size = pair("n", 2, 1, 16);
    this.stride = pair("s", 2, 1, 16);
    this.padding = whole(query.get("pad"), 0, 6, 0);
    const mode = query.get("m");
    this.mode = (["replicate", "reflect", "symmetric", "circular"].includes(mode ?? "") ? mode : "zeros") as Mode;
    this.outputs = whole(query.get("to"), 0, 12, 0);
    this.p = whole(query.get("p"), 1, 9, 2);
    this.seed = query.has("seed") ? whole(query.get("seed"), 0, 2 ** 31 - 1, 0) : null;
    this.k = whole(query.get("k"), 1, 20, 3);
    this.segments = whole(query.get("parts"), 1, 20, 3);
    this.shift = pair("shift", 0, -6, 6);
    this.weights = parsed(query.get("w"))?.planes[0] ?? null;
  }
}
