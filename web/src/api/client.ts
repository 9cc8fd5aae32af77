/** Asks the server; the types are the API's own. */
import type { paths, Problem } from "./schema";

type Post = { [Path in keyof paths]: paths[Path] extends { post: infer Operation } ? Operation : never };
type Body<O> = O extends { requestBody: { content: { "application/json": infer B } } } ? B : never;
type Answer<O> = O extends { responses: { 200: { content: { "application/json": infer A } } } } ? A : never;

/** What can't be used, in the words of the server; `kind` names the sentence. */
export class Refusal extends Error {
  constructor(readonly problem: Problem) {
    super(problem.message);
  }
}

async function send(path: string, type: string, body: BodyInit, signal?: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { method: "POST", headers: { "Content-Type": type }, body, signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal({ kind: "offline", message: "the lab does not answer: start it again", numbers: [] });
  }
  if (response.ok) return response;
  const problem = (await response.json().catch(() => null)) as Problem | null;
  throw new Refusal(problem ?? { kind: "other", message: `${response.status} ${response.statusText}`, numbers: [] });
}

export async function ask<Path extends keyof paths>(
  path: Path,
  body: Body<Post[Path]>,
  signal?: AbortSignal,
): Promise<Answer<Post[Path]>> {
  return (await send(path, "application/json", JSON.stringify(body), signal)).json();
}

export async function askFile(path: keyof paths, body: unknown): Promise<Blob> {
  return (await send(path, "application/json", JSON.stringify(body))).blob();
}

export async function sendFile<Path extends keyof paths>(
  path: Path,
  file: Blob,
  options: Record<string, string | number>,
  signal?: AbortSignal,
): Promise<Answer<Post[Path]>> {
  const query = new URLSearchParams(Object.entries(options).map(([name, value]) => [name, String(value)]));
  return (await send(`${path}?${query}`, "application/octet-stream", file, signal)).json();
}

/** Gives a file to the reader. */
export function save(content: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Sends a file and gets the raw answer: its bytes, and what its headers say. */
export async function sendRaw(
  path: keyof paths,
  file: Blob,
  options: Record<string, string | number>,
  signal?: AbortSignal,
): Promise<{ bytes: ArrayBuffer; headers: Headers }> {
  const query = new URLSearchParams(Object.entries(options).map(([name, value]) => [name, String(value)]));
  const response = await send(`${path}?${query}`, "application/octet-stream", file, signal);
  return { bytes: await response.arrayBuffer(), headers: response.headers };
}
