// Extents and strides, in elements, of one contraction in the letters of src/mps/view.rs:
//
//   U[s,k,v] = Σ_r X[s,r] F[r,k,v]          Y[w,v] = Σ_{s,k} G[w,k,s] U[s,k,v]
//
// F is the core that meets the input first, G the other one. Strides between samples are s·r and w·v.

struct View {
    s: u32,
    r: u32,
    v: u32,
    w: u32,
    k: u32,
    x_s: u32,
    x_r: u32,
    f_r: u32,
    f_k: u32,
    f_v: u32,
    g_w: u32,
    g_k: u32,
    g_s: u32,
    y_w: u32,
    y_v: u32,
}

