// Fills a tile in workgroup memory with numbers of some samples, `x_tile` as [sample, i][j in fours]: of the input, or of
// the gradient by the output where `is_d` is set.
//
// `samples` are the first one, where they end, and how many the tile holds; `rows`, a multiple of 4, and `fours` its
// extents of i and j, which begin at `begin`; `extents` and `strides` those of i and j in memory, one of which is
// contiguous. What lies beyond an extent is zero. An invocation moves blocks of 4 x 4, from runs of four numbers.
fn load(lane: u32, is_d: bool, samples: vec3<u32>, begin: vec2<u32>, rows: u32, fours: u32,
        extents: vec2<u32>, strides: vec2<u32>) {
    // A mode of extent 1 says nothing of what is contiguous.
    let along_i = strides.x == 1u && (extents.x > 1u || strides.y != 1u);
    let blocks = rows / 4u;
    let by_blocks = 1.0 / f32(blocks);
    let by_fours = 1.0 / f32(fours);
    // c is the mode that is contiguous, n the other one.
    let extent_c = select(extents.y, extents.x, along_i);
    let extent_n = select(extents.x, extents.y, along_i);
    let stride_n = select(strides.x, strides.y, along_i);
    for (var e = lane; e < samples.z * blocks * fours; e += WORKGROUP_SIZE) {
        // Lanes go along what is contiguous.
        var i4 = 0u;
        var j4 = 0u;
        var sample = 0u;
        if (along_i) {
            let rest = divided(e, by_blocks);
            i4 = e - rest * blocks;
            sample = divided(rest, by_fours);
            j4 = rest - sample * fours;
        } else {
            let rest = divided(e, by_fours);
            j4 = e - rest * fours;
            sample = divided(rest, by_blocks);
            i4 = rest - sample * blocks;
        }
        let to = (sample * rows + 4u * i4) * fours + j4;
        sample += samples.x;
        let i = 4u * i4 + begin.x;
        let j = 4u * j4 + begin.y;
        let c = select(j, i, along_i);
        let n = select(i, j, along_i);
        let there = sample < samples.y && c < extent_c;
        let at = min(sample, samples.y - 1u) * extents.x * extents.y + select(0u, c, there);
        let count = select(1u, extent_c - c, there);
        let last_n = extent_n - 1u;
        let run_a = run_of(is_d, at + min(n, last_n) * stride_n, count);
        let run_b = run_of(is_d, at + min(n + 1u, last_n) * stride_n, count);
        let run_c = run_of(is_d, at + min(n + 2u, last_n) * stride_n, count);
        let run_d = run_of(is_d, at + min(n + 3u, last_n) * stride_n, count);
        let in_run = vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(select(0u, count, there));
        let zero = vec4<f32>();
        let a = select(zero, run_a, in_run & vec4<bool>(n < extent_n));
        let b = select(zero, run_b, in_run & vec4<bool>(n + 1u < extent_n));
        let c_ = select(zero, run_c, in_run & vec4<bool>(n + 2u < extent_n));
        let d = select(zero, run_d, in_run & vec4<bool>(n + 3u < extent_n));
        if (along_i) {
            x_tile[to] = vec4<f32>(a.x, b.x, c_.x, d.x);
            x_tile[to + fours] = vec4<f32>(a.y, b.y, c_.y, d.y);
            x_tile[to + 2u * fours] = vec4<f32>(a.z, b.z, c_.z, d.z);
            x_tile[to + 3u * fours] = vec4<f32>(a.w, b.w, c_.w, d.w);
        } else {
            x_tile[to] = a;
            x_tile[to + fours] = b;
            x_tile[to + 2u * fours] = c_;
            x_tile[to + 3u * fours] = d;
        }
    }
}
