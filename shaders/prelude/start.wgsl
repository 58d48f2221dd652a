// What a sum begins with: nothing, the bias, or what the output already holds from an earlier launch.

const START_ZERO: u32 = 0u;
const START_BIAS: u32 = 1u;
const START_OUTPUT: u32 = 2u;

