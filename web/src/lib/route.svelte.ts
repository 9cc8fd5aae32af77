/** The address after the #: which room, and its state, so that every view can be sent to somebody. */
class Route {
  room = $state("");
  /** Changes when the address was changed from outside: by a link, by going back, by hand. */
  visit = $state(0);
  #query = new URLSearchParams();

  constructor() {
    this.#read();
    window.addEventListener("hashchange", () => this.#read());
  }

  get query(): URLSearchParams {
    return this.#query;
  }

  /** Writes a room's state into the address without a step in the history. */
  keep(query: URLSearchParams): void {
    this.#query = query;
    const text = query.toString();
    const hash = `#/${this.room}${text ? `?${text}` : ""}`;
    if (hash !== location.hash) history.replaceState(history.state, "", hash);
  }

  #read(): void {
    const [path, query] = location.hash.replace(/^#\/?/, "").split("?", 2);
    this.room = path;
    this.#query = new URLSearchParams(query ?? "");
    this.visit += 1;
  }
}

export const route = new Route();
