/**
 * What is drawn, as 28 × 28 grey levels from 0 to 15 by rows: so small that an address holds it, and what the network is
 * asked about is made of nothing else. In an address a letter from a to p is a level, a number before it how many such.
 */
const SIDE = 28;
const LEVELS = 16;
export type Levels = Uint8Array;

/** What stands on a canvas; its edges are averaged, not dropped. */
export function levelsOf(canvas: HTMLCanvasElement): Levels {
  const small = sized();
  const context = small.getContext("2d")!;
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, 0, 0, SIDE, SIDE);
  const { data } = context.getImageData(0, 0, SIDE, SIDE);
  return Uint8Array.from({ length: SIDE * SIDE }, (_, i) => Math.round((data[4 * i] / 255) * (LEVELS - 1)));
}

/** As a canvas of as many pixels. */
export function canvasOf(levels: Levels): HTMLCanvasElement {
  const canvas = sized();
  const picture = new ImageData(SIDE, SIDE);
  levels.forEach((level, i) => {
    picture.data.fill((255 * level) / (LEVELS - 1), 4 * i, 4 * i + 3);
    picture.data[4 * i + 3] = 255;
  });
  canvas.getContext("2d")!.putImageData(picture, 0, 0);
  return canvas;
}

/** As a picture file. */
export const fileOf = (levels: Levels): Promise<Blob> =>
  new Promise((done, failed) => canvasOf(levels).toBlob((file) => (file ? done(file) : failed(new Error("no picture")))));

export function written(levels: Levels): string {
  let text = "";
  for (let from = 0, to = 0; from < levels.length; from = to) {
    while (levels[to] === levels[from]) to++;
    text += (to - from > 1 ? to - from : "") + String.fromCharCode(97 + levels[from]);
  }
  return text;
}

/** From an address; null if it holds no drawing. */
export function read(text: string | null): Levels | null {
  if (!text || !/^(\d{0,3}[a-p])+$/.test(text)) return null;
  const levels: number[] = [];
  for (const [, count, letter] of text.matchAll(/(\d*)([a-p])/g))
    for (let i = 0; i < Number(count || 1) && levels.length <= SIDE * SIDE; i++) levels.push(letter.charCodeAt(0) - 97);
  return levels.length === SIDE * SIDE ? Uint8Array.from(levels) : null;
}

function sized(): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [SIDE, SIDE];
  return canvas;
}
