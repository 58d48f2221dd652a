// Quotients of small numbers: a division of integers takes a GPU some twenty instructions, this one four. Exact below
// 2^20: the quotient with a half added is further from a whole number than f32 rounds.

fn divided(number: u32, inverse: f32) -> u32 {
    return u32((f32(number) + 0.5) * inverse);
}
