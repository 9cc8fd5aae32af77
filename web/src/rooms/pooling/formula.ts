/** One number of a pooling, spelled out. */
import { factor, listed, number } from "../../lib/format";
import type { Term } from "../../lib/stage";

const UP = "⁰¹²³⁴⁵⁶⁷⁸⁹";

export interface Spelling {
  terms: Term[];
  weights: number[];
  p: number | null;
  sampled: boolean;
  words: { drawn: (value: string, share: string) => string; nothing: string; among: (k: number) => string };
}

export function spelled(kind: string, { terms, weights, p, sampled, words }: Spelling): string {
  const values = terms.map((term) => term.value);
  const reading = values.filter((value) => value !== null);
  const sum = (parts: string[]) => (parts.length > 16 ? [...parts.slice(0, 12), "…"] : parts).join(" + ");
  const list = (parts: string[]) => listed(parts.length > 16 ? [...parts.slice(0, 12), "…"] : parts);
  switch (kind) {
    case "average": {
      const share = terms.find((term) => term.factor)?.factor ?? 1;
      return `(${sum(values.map((value) => factor(value ?? 0)))}) / ${number(1 / share)}`;
    }
    case "weighted": {
      const first = terms.find((term) => term.factor && weights[term.weight]);
      const total = first ? weights[first.weight] / first.factor! : 1;
      return `(${sum(terms.map((term) => `${number(weights[term.weight])}·${factor(term.value ?? 0)}`))}) / ${number(total)}`;
    }
    case "norm": {
      const sizes = reading.map((value) => (value! < 0 ? `|${number(value)}|` : number(value)));
      if (p === null) return `max(${list(sizes)})`;
      if (p === 1) return sum(sizes);
      const raised = sum(sizes.map((size) => size + UP[p]));
      return p === 2 ? `√(${raised})` : `(${raised})^(1/${p})`;
    }
    case "stochastic": {
      const weighed = terms.filter((term) => term.factor);
      if (!weighed.length) return words.nothing;
      if (!sampled) return sum(weighed.map((term) => `${number(term.value)}·${number(term.factor, 2)}`));
      const drawn = terms.find((term) => term.chosen);
      return drawn ? words.drawn(number(drawn.value), number(drawn.factor, 2)) : words.nothing;
    }
    case "kmax":
      return words.among(reading.length);
    default:
      return `max(${list(reading.map((value) => number(value)))})`;
  }
}
