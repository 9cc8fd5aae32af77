/** Russian typography: what must not part at the end of a line is held together. */
const NBSP = "\u00a0";
const SHORT = "а|без|в|во|для|до|за|и|из|к|ко|на|не|ни|но|о|об|от|по|при|с|со|то|у";
const BEFORE = new RegExp(`(?<=^|[\\s(«„])(${SHORT}) (?=\\S)`, "gi");

/** A dash keeps to the word before it, a short word to the one after it, a number to what it counts. */
export function held(text: string): string {
  return text
    .replace(/ (?=[—–] )/g, NBSP)
    .replace(BEFORE, `$1${NBSP}`)
    .replace(/(\d) (?=[×%+=·а-яё])/gi, `$1${NBSP}`)
    .replace(/([×+=·]) (?=\d)/g, `$1${NBSP}`);
}

/** All texts of a dictionary, and those that its functions make. */
export function typeset<T>(words: T): T {
  if (typeof words === "string") return held(words) as T;
  if (typeof words === "function") return ((...given: unknown[]) => typeset(words(...given))) as T;
  if (words === null || typeof words !== "object" || Array.isArray(words)) return words;
  return Object.fromEntries(Object.entries(words).map(([name, value]) => [name, typeset(value)])) as T;
}
