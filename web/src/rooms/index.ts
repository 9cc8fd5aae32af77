/** The rooms, in their order. */
import Convolution from "./convolution/Convolution.svelte";
import Filters from "./filters/Filters.svelte";
import Layers from "./layers/Layers.svelte";
import Lecture from "./lecture/Lecture.svelte";
import Network from "./network/Network.svelte";
import Pooling from "./pooling/Pooling.svelte";
import Train from "./train/Train.svelte";

export const ROOMS = { convolution: Convolution, pooling: Pooling, filters: Filters, layers: Layers, network: Network, train: Train, lecture: Lecture };
