// Tiles of 64 x 64, for large products: half as many loads for a multiply-add.

const SIDE: u32 = 16u;
