// Computes what `depth_and_signal_propagation` shows.

import { compute } from "./depth_and_signal_propagation.mjs";

self.onmessage = ({ data }) => self.postMessage({ id: data.id, found: compute(data) });
