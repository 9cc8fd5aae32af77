/** One question at a time: a new one gives up the one before; what came last stays until the next answer. */
import { Refusal } from "../api/client";
import type { Problem } from "../api/schema";

export class Asking<Answer> {
  answer = $state.raw<Answer | null>(null);
  problem = $state.raw<Problem | null>(null);
  busy = $state(true);
  #stop = new AbortController();

  /** Asks; `then` is called when the answer has come. */
  ask(question: (signal: AbortSignal) => Promise<Answer>, then?: (answer: Answer) => void): () => void {
    this.#stop.abort();
    const stop = (this.#stop = new AbortController());
    this.busy = true;
    question(stop.signal).then(
      (answer) => {
        if (stop.signal.aborted) return;
        this.answer = answer;
        this.problem = null;
        this.busy = false;
        then?.(answer);
      },
      (error: unknown) => this.#failed(error, stop.signal),
    );
    return () => stop.abort();
  }

  /** Does something else that the server may refuse. */
  async attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown, signal?: AbortSignal): void {
    if (signal?.aborted) return;
    if (!(error instanceof Refusal)) throw error;
    this.problem = error.problem;
    this.busy = false;
  }
}
