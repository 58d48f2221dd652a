// Tiles of 32 x 32 that four slices of 64 invocations share: for products with few of them.

const SIDE: u32 = 8u;
