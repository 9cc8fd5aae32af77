import type { Attachment } from "svelte/attachments";

/** A picture that is dropped on the element is taken. */
export function dropped(take: (file: File | undefined) => void): Attachment<HTMLElement> {
  return (element) => {
    const over = (event: DragEvent) => event.preventDefault();
    const drop = (event: DragEvent) => {
      event.preventDefault();
      take(event.dataTransfer?.files[0]);
    };
    element.addEventListener("dragover", over);
    element.addEventListener("drop", drop);
    return () => {
      element.removeEventListener("dragover", over);
      element.removeEventListener("drop", drop);
    };
  };
}
