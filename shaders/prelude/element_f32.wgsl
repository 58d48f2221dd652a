// An invocation computes one number.

alias Element = f32;
alias Index = u32;
const OFFSETS: Index = Index(0u);
const WIDTH: u32 = 1u;

