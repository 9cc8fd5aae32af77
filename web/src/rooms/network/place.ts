/** One number of a network. */
export interface Place {
  layer: string;
  channel: number;
  row: number;
  column: number;
}

/** From an address: layer,channel,row,column. */
export function read(text: string | null): Place | null {
  const parts = text?.split(",") ?? [];
  const numbers = parts.slice(-3).map(Number);
  if (parts.length < 4 || !numbers.every((n) => Number.isInteger(n) && n >= 0)) return null;
  return { layer: parts.slice(0, -3).join(","), channel: numbers[0], row: numbers[1], column: numbers[2] };
}

export const written = (place: Place): string => [place.layer, place.channel, place.row, place.column].join(",");
