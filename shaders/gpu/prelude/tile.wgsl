// Four rows of four numbers, in registers.
struct Tile {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

// The tile, and in each row the four numbers of `p` times the row's own of `x`.
fn with_product(tile: Tile, x: vec4<f32>, p: vec4<f32>) -> Tile {
    return Tile(
        fma(p, x.xxxx, tile.a),
        fma(p, x.yyyy, tile.b),
        fma(p, x.zzzz, tile.c),
        fma(p, x.wwww, tile.d),
    );
}
