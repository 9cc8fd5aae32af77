/** Numbers as colours: what the server computed, painted; nothing is computed here. */

/** float32 from base64. */
export function floats(text: string): Float32Array {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

type Colour = [number, number, number];
export interface Palette {
  nothing: Colour;
  more: Colour;
  less: Colour;
  paper: string;
  ink: string;
  accent: string;
}

function colour(value: string): Colour {
  const digits = /^#(..)(..)(..)$/.exec(value);
  if (digits) return [parseInt(digits[1], 16), parseInt(digits[2], 16), parseInt(digits[3], 16)];
  const short = /^#(.)(.)(.)$/.exec(value)!;
  return [parseInt(short[1] + short[1], 16), parseInt(short[2] + short[2], 16), parseInt(short[3] + short[3], 16)];
}

/** The theme's colours, as they are now. */
export function palette(): Palette {
  const style = getComputedStyle(document.documentElement);
  const read = (name: string) => style.getPropertyValue(name).trim();
  return {
    nothing: colour(read("--cell")),
    more: colour(read("--accent")),
    less: colour(read("--minus")),
    paper: read("--paper"),
    ink: read("--ink"),
    accent: read("--accent"),
  };
}

/** One plane of signed numbers as a picture of as many pixels. */
export function signed(values: Float32Array, first: number, rows: number, columns: number, most: number, colours: Palette): HTMLCanvasElement {
  const data = new ImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) {
    const value = values[first + i];
    const share = most > 0 ? Math.min(1, Math.abs(value) / most) : 0;
    const full = value < 0 ? colours.less : colours.more;
    for (let c = 0; c < 3; c++) data.data[4 * i + c] = colours.nothing[c] + (full[c] - colours.nothing[c]) * share;
    data.data[4 * i + 3] = 255;
  }
  return onCanvas(data);
}

/** Three planes as red, green and blue; grey is 0. */
export function coloured(values: Float32Array, rows: number, columns: number, most: number): HTMLCanvasElement {
  const data = new ImageData(columns, rows);
  const size = rows * columns;
  for (let i = 0; i < size; i++) {
    for (let c = 0; c < 3; c++) data.data[4 * i + c] = 127.5 + (127.5 * values[c * size + i]) / (most || 1);
    data.data[4 * i + 3] = 255;
  }
  return onCanvas(data);
}

function onCanvas(data: ImageData): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [data.width, data.height];
  canvas.getContext("2d")!.putImageData(data, 0, 0);
  return canvas;
}

/** Makes a canvas sharp on any screen; its context counts in the page's pixels. */
export function prepared(canvas: HTMLCanvasElement, width: number, height: number): CanvasRenderingContext2D {
  const dense = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.round(width * dense), Math.round(height * dense)];
  canvas.style.width = `${width}px`;
  const context = canvas.getContext("2d")!;
  context.setTransform(dense, 0, 0, dense, 0, 0);
  context.imageSmoothingEnabled = false;
  return context;
}
