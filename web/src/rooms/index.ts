/** The rooms, in their order. */
import Convolution from "./convolution/Convolution.svelte";

export const ROOMS = { convolution: Convolution };
