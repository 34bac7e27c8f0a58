// The digits of bnlib.datasets, as the build writes them into digits.bin: the pixels of all training
// and then of all test images, 0 to 16, and then their labels. Images are stored by features.

export const PIXELS = 64;

export function parse(bytes, Real = Float64Array, nTest = 397) {
  const n = bytes.length / (PIXELS + 1);
  const set = (first, count) => ({
    x: Array.from({ length: PIXELS }, (_, j) =>
      Real.from({ length: count }, (_, i) => bytes[(first + i) * PIXELS + j] / 16),
    ),
    labels: [...bytes.slice(n * PIXELS + first, n * PIXELS + first + count)],
  });
  return { train: set(0, n - nTest), test: set(n - nTest, nTest) };
}
