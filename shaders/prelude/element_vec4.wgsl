// An invocation computes four neighbours, where the number of elements is a multiple of 4: a load of four
// costs llvmpipe nearly the same as a load of one.

alias Element = vec4<f32>;
alias Index = vec4<u32>;
const OFFSETS: Index = Index(0u, 1u, 2u, 3u);
const WIDTH: u32 = 4u;

