/** The rooms, in their order. */
import Convolution from "./convolution/Convolution.svelte";
import Filters from "./filters/Filters.svelte";
import Pooling from "./pooling/Pooling.svelte";

export const ROOMS = { convolution: Convolution, pooling: Pooling, filters: Filters };
