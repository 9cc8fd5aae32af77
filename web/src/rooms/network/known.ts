import { ask, Refusal } from "../../api/client";
import type { NetworkAnswer } from "../../api/schema";

/** A network of the server; while it is being trained it is asked for again, and `progress` is told the epochs. */
export async function known(model: string, signal: AbortSignal, progress: (done: number, all: number) => void): Promise<NetworkAnswer> {
  for (;;) {
    try {
      return await ask("/api/network", { model }, signal);
    } catch (error) {
      if (!(error instanceof Refusal) || error.problem.kind !== "training") throw error;
      progress(error.problem.numbers![0], error.problem.numbers![1]);
      await new Promise((done) => setTimeout(done, 300));
      signal.throwIfAborted();
    }
  }
}

/** A file from an address of ours, or from a data URL, which the page's policy lets no request open. */
export async function opened(source: string): Promise<Blob> {
  if (!source.startsWith("data:")) return (await fetch(source)).blob();
  return new Blob([Uint8Array.from(atob(source.split(",")[1]), (letter) => letter.charCodeAt(0))]);
}

/** A picture to begin with: a digit if the network knows digits, else the cat. */
export const example = (info: NetworkAnswer, sample: number): string => (info.samples.length ? info.samples[sample] : "/cat.png");
