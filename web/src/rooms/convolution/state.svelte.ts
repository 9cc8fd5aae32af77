/** The experiment as the reader set it, as a request, and as an address. */
import type { ConvolutionAsked } from "../../api/schema";
import { written } from "../../lib/format";
import { fresh, parsed, resized, same, whole, type Planes } from "../../lib/planes";

export type Named = "valid" | "same_upper" | "same_lower";
export type Mode = "zeros" | "replicate" | "reflect" | "symmetric" | "circular";
export const MODES: Mode[] = ["zeros", "replicate", "symmetric", "reflect", "circular"];

export class Experiment {
  x = $state<Planes>([[[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]]);
  kernel = $state<Planes>([[[0, 1, 2], [2, 2, 0], [0, 1, 2]]]);
  ndim = $state(2);
  filters = $state(1);
  stride = $state([1, 1]);
  padding = $state<[number, number][]>([[0, 0], [0, 0]]);
  named = $state<Named>("valid");
  dilation = $state([1, 1]);
  mode = $state<Mode>("zeros");
  groups = $state(1);
  transposed = $state(false);
  outputPadding = $state(0);
  flip = $state(false);
  bias = $state<number | null>(null);

  get channels(): number {
    return this.x.length;
  }

  /** How many planes the kernel has: one for each pair of channels that see each other. */
  get planes(): number {
    return (this.filters * this.channels) / this.groups;
  }

  get request(): ConvolutionAsked {
    const axes = <T>(values: T[]) => (this.ndim === 1 ? values.slice(-1) : values.slice());
    return {
      input: written($state.snapshot(this.x), this.ndim),
      kernel: written($state.snapshot(this.kernel), this.ndim),
      bias: this.bias,
      stride: axes(this.stride),
      padding: this.named === "valid" ? axes(this.padding).map(([before, after]) => [before, after] as [number, number]) : this.named,
      dilation: axes(this.dilation),
      mode: this.transposed ? "zeros" : this.mode,
      groups: this.groups,
      transposed: this.transposed,
      output_padding: this.transposed ? this.outputPadding : 0,
      flip: this.flip,
    };
  }

  resizeInput(rows: number, columns: number, channels = this.channels): void {
    this.x = resized(this.x, channels, this.ndim === 1 ? 1 : rows, columns, fresh);
    this.#fit();
  }

  resizeKernel(rows: number, columns: number): void {
    this.kernel = resized(this.kernel, this.kernel.length, this.ndim === 1 ? 1 : rows, columns, () => 1);
  }

  setFilters(filters: number): void {
    this.filters = filters;
    this.#fit();
  }

  setGroups(groups: number): void {
    this.groups = groups;
    this.filters = Math.max(groups, Math.ceil(this.filters / groups) * groups);
    this.#fit();
  }

  setNdim(ndim: number): void {
    this.ndim = ndim;
    if (ndim === 1) {
      this.x = this.x.map((plane) => [plane[0]]);
      this.kernel = this.kernel.map((plane) => [plane[Math.floor(plane.length / 2)]]);
    } else {
      const [side, size] = [this.x[0][0].length, this.kernel[0][0].length];
      this.x = resized(this.x, this.channels, Math.min(side, 7), side, fresh);
      this.kernel = resized(this.kernel, this.kernel.length, size, size, () => 1);
    }
  }

  /** Groups that divide the channels, a plane for each pair of channels. */
  #fit(): void {
    if (this.channels % this.groups) this.groups = 1;
    if (this.filters % this.groups) this.filters = this.groups;
    const [rows, columns] = [this.kernel[0].length, this.kernel[0][0].length];
    const old = this.kernel;
    this.kernel = resized(old, this.planes, rows, columns, (plane, row, column) => old[plane % old.length][row][column]);
  }

  get query(): URLSearchParams {
    const query = new URLSearchParams();
    const asked = this.request;
    query.set("x", asked.input);
    query.set("k", asked.kernel);
    const put = (name: string, value: string, usual: string) => value !== usual && query.set(name, value);
    put("f", String(this.filters), "1");
    put("s", same(asked.stride!), "1");
    put("p", Array.isArray(asked.padding) ? asked.padding.map((pair) => pair.join(":")).join(",") : String(asked.padding), this.ndim === 1 ? "0:0" : "0:0,0:0");
    put("d", same(asked.dilation!), "1");
    put("m", this.mode, "zeros");
    put("g", String(this.groups), "1");
    put("t", this.transposed ? "1" : "", "");
    put("op", String(this.outputPadding), "0");
    put("flip", this.flip ? "1" : "", "");
    put("b", this.bias === null ? "" : String(this.bias), "");
    return query;
  }

  /** Takes over what an address says; what it says wrongly stays as it was. */
  read(query: URLSearchParams): void {
    const [x, kernel] = [parsed(query.get("x")), parsed(query.get("k"))];
    if (!x || !kernel || x.ndim !== kernel.ndim) return;
    this.x = x.planes;
    this.kernel = kernel.planes;
    this.ndim = x.ndim;
    this.groups = whole(query.get("g"), 1, 64, 1);
    this.filters = whole(query.get("f"), 1, 64, 1);
    if (this.kernel.length !== this.planes) this.filters = Math.max(1, Math.round((this.kernel.length * this.groups) / this.channels));
    const pair = (text: string | null) => {
      const parts = (text ?? "").split(",").map((part) => whole(part, 1, 16, 1));
      return parts.length === 1 ? [parts[0], parts[0]] : parts.slice(0, 2);
    };
    this.stride = pair(query.get("s"));
    this.dilation = pair(query.get("d"));
    const padding = query.get("p") ?? "0:0";
    this.named = padding === "same_upper" || padding === "same_lower" ? padding : "valid";
    const sides = padding.split(",").map((part) => {
      const [before, after] = part.split(":").map((side) => whole(side, 0, 32, 0));
      return [before, after ?? before] as [number, number];
    });
    this.padding = this.named === "valid" ? (sides.length === 1 ? [sides[0], sides[0]] : sides.slice(0, 2)) : [[0, 0], [0, 0]];
    const mode = query.get("m") as Mode | null;
    this.mode = mode && MODES.includes(mode) ? mode : "zeros";
    this.transposed = query.get("t") === "1";
    this.outputPadding = whole(query.get("op"), 0, 8, 0);
    this.flip = query.get("flip") === "1";
    const bias = query.get("b");
    this.bias = bias !== null && Number.isFinite(Number(bias)) ? Number(bias) : null;
  }
}
