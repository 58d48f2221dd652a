//! What a chain is computed by: one core at a time is contracted with a tensor of three modes, through strides.
//!
//! ```text
//! out[p, s, r] = Σ_q G[s,q] T[p, q, r]
//! ```
//!
//! The gradients are of the same kind: `grad_T = Gᵀ grad_out`, the transposed step, and `grad_G[s,q] = Σ_{p,r} grad_out[p,s,r]
//! T[p,q,r]`.
//!
//! **Core by core** ([`Chain::steps`]), `T` is a batch, and nothing is ever permuted. From the right, `X[i_1 … i_d]` is seen as
//! `T[p, q, r]` with `q = i_d`; core `d` makes `(k_{d-1}, o_d)` of it, which together with `i_{d-1}` is what the next core sums
//! over. What is left of `q` has not been met yet, what is right of it are outputs:
//!
//! ```text
//! from the right   p = i_1 … i_{t-1}   q = (i_t, k_t)       s = (k_{t-1}, o_t)   r = o_{t+1} … o_d
//! from the left    p = o_1 … o_{t-1}   q = (k_{t-1}, i_t)   s = (o_t, k_t)       r = i_{t+1} … i_d
//! ```
//!
//! **Folding** ([`Chain::folds`]), `T` is what the cores so far are the product of, and `out` that with one more core, in the
//! order in which the layer of two cores has its own:
//!
//! ```text
//! on the left    A_t[(m o), k', (j i)] = Σ_k  A_{t-1}[m,k,j] G_t[k,o,i,k']
//! on the right   C_t[(i l), k, (o n)]  = Σ_k' G_t[k,o,i,k']  C_{t+1}[l,k',n]
//! ```

use super::Chain;

/// At which end of the chain the input meets its first core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// The first core.
    Left,
    /// The last core.
    Right,
}

impl End {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Left, Self::Right];
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Left => "from the left",
            Self::Right => "from the right",
        })
    }
}

/// A mode that the core does not have: its extent, and from one index to the next in `T` and in `out`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// The extent.
    pub extent: usize,
    /// The stride in `T`.
    pub t: usize,
    /// The stride in `out`.
    pub out: usize,
}

/// A mode of the core: its extent, and from one index to the next in the core and in `T` or `out`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreMode {
    /// The extent.
    pub extent: usize,
    /// The stride in the core.
    pub core: usize,
    /// The stride in the tensor that has it too: `T`, of a mode that is summed over, else `out`.
    pub tensor: usize,
}

impl CoreMode {
    /// A mode that is not there.
    pub const NONE: Self = Self { extent: 1, core: 0, tensor: 0 };
}

/// A core that is contracted with a tensor: `out[p,s,r] = Σ_q G[s,q] T[p,q,r]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Which core, counted from 0.
    pub core: usize,
    /// The mode left of those of the core; of one sample, if `T` is a batch.
    pub p: Mode,
    /// The modes of the core that the result has: `s` counts them in this order.
    pub s: [CoreMode; 3],
    /// The modes that are summed over.
    pub q: [CoreMode; 3],
    /// The mode right of those of the core.
    pub r: Mode,
}

/// Number of indices of modes together.
fn extent(modes: &[CoreMode; 3]) -> usize {
    modes.iter().map(|mode| mode.extent).product()
}

impl Step {
    /// A matrix `[q, s]` in place of a core: of a sample `[q]` it makes `[s]`.
    pub fn matrix(inputs: usize, outputs: usize) -> Self {
        let mode =
            |extent, core| [CoreMode::NONE, CoreMode::NONE, CoreMode { extent, core, tensor: 1 }];
        Self {
            core: 0,
            p: Mode { extent: 1, t: inputs, out: outputs },
            s: mode(outputs, 1),
            q: mode(inputs, outputs),
            r: Mode { extent: 1, t: 1, out: 1 },
        }
    }

    /// A core `[rows, columns]` times ones, which is the core itself, transposed.
    pub fn transposition([rows, columns]: [usize; 2]) -> Self {
        let row = CoreMode { extent: rows, core: columns, tensor: 1 };
        let column = CoreMode { extent: columns, core: 1, tensor: rows };
        Self { s: [CoreMode::NONE, column, row], ..Self::matrix(1, rows * columns) }
    }

    /// Number of sums for each `p` and `r`.
    pub fn sums(&self) -> usize {
        extent(&self.s)
    }

    /// Number of terms of a sum.
    pub fn terms(&self) -> usize {
        extent(&self.q)
    }

    /// Elements of `T`.
    pub fn input(&self) -> usize {
        self.p.extent * self.terms() * self.r.extent
    }

    /// Elements of `out`.
    pub fn output(&self) -> usize {
        self.p.extent * self.sums() * self.r.extent
    }

    /// Multiply-adds.
    pub fn multiply_adds(&self) -> usize {
        self.output() * self.terms()
    }

    /// The same step in the other direction, by the transposed core.
    #[must_use]
    pub fn transposed(self) -> Self {
        let swapped = |Mode { extent, t, out }| Mode { extent, t: out, out: t };
        Self { p: swapped(self.p), s: self.q, q: self.s, r: swapped(self.r), ..self }
    }

    /// The offsets of every `s` in the core, and in `out`.
    pub fn s_offsets(&self) -> [Vec<usize>; 2] {
        offsets(&self.s)
    }

    /// The offsets of every `q` in the core, and in `T`. `G[s,q]` lies where both offsets in the core add up to.
    pub fn q_offsets(&self) -> [Vec<usize>; 2] {
        offsets(&self.q)
    }
}

/// The offsets of all indices of some modes, in the core and in the other tensor.
fn offsets(modes: &[CoreMode; 3]) -> [Vec<usize>; 2] {
    let along = |stride: fn(&CoreMode) -> usize| {
        modes.iter().fold(vec![0], |outer, mode| {
            let inner = |begin: usize| (0..mode.extent).map(move |at| begin + at * stride(mode));
            outer.into_iter().flat_map(inner).collect()
        })
    };
    [along(|mode| mode.core), along(|mode| mode.tensor)]
}

impl Chain {
    /// The strides `[k, o, i, k']` of a core.
    fn strides(&self, core: usize) -> [usize; 4] {
        let [_, outputs, inputs, after] = self.core_shape(core);
        [outputs * inputs * after, inputs * after, after, 1]
    }

    /// The cores one after the other, each with a batch.
    pub fn steps(&self, from: End) -> Vec<Step> {
        let step = |core: usize| {
            let [before, outputs, inputs, after] = self.core_shape(core);
            let [by_before, by_output, by_input, by_after] = self.strides(core);
            let product = |factors: &[usize]| factors.iter().product::<usize>();
            let (p, r) = match from {
                End::Right => (product(&self.inputs[..core]), product(&self.outputs[core + 1..])),
                End::Left => (product(&self.outputs[..core]), product(&self.inputs[core + 1..])),
            };
            let pair = |[(outer, outer_core), (inner, inner_core)]: [(usize, usize); 2]| {
                let outer = CoreMode { extent: outer, core: outer_core, tensor: inner * r };
                [CoreMode::NONE, outer, CoreMode { extent: inner, core: inner_core, tensor: r }]
            };
            let (s, q) = match from {
                End::Right => (
                    pair([(before, by_before), (outputs, by_output)]),
                    pair([(inputs, by_input), (after, by_after)]),
                ),
                End::Left => (
                    pair([(outputs, by_output), (after, by_after)]),
                    pair([(before, by_before), (inputs, by_input)]),
                ),
            };
            let p = Mode { extent: p, t: extent(&q) * r, out: extent(&s) * r };
            Step { core, p, s, q, r: Mode { extent: r, t: 1, out: 1 } }
        };
        match from {
            End::Left => (0..self.cores()).map(step).collect(),
            End::Right => (0..self.cores()).rev().map(step).collect(),
        }
    }

    /// How `A[m,k,j]` (of the `cut` cores on the left) or `C[l,k,n]` (of those on the right) is built, from the core at the end
    /// on. `T` of the first step is the number 1.
    pub fn folds(&self, cut: usize, end: End) -> Vec<Step> {
        match end {
            End::Left => {
                let (mut m, mut j) = (1, 1);
                let step = |core: usize| {
                    let [before, outputs, inputs, after] = self.core_shape(core);
                    let [by_before, by_output, by_input, by_after] = self.strides(core);
                    let columns = j * inputs;
                    let step = Step {
                        core,
                        p: Mode { extent: m, t: before * j, out: outputs * after * columns },
                        s: [
                            CoreMode { extent: outputs, core: by_output, tensor: after * columns },
                            CoreMode { extent: after, core: by_after, tensor: columns },
                            CoreMode { extent: inputs, core: by_input, tensor: 1 },
                        ],
                        q: [
                            CoreMode::NONE,
                            CoreMode::NONE,
                            CoreMode { extent: before, core: by_before, tensor: j },
                        ],
                        r: Mode { extent: j, t: 1, out: inputs },
                    };
                    (m, j) = (m * outputs, columns);
                    step
                };
                (0..cut).map(step).collect()
            }
            End::Right => {
                let (mut l, mut n) = (1, 1);
                let step = |core: usize| {
                    let [before, outputs, inputs, after] = self.core_shape(core);
                    let [by_before, by_output, by_input, by_after] = self.strides(core);
                    let row = before * outputs * n;
                    let step = Step {
                        core,
                        p: Mode { extent: l, t: after * n, out: row },
                        s: [
                            CoreMode { extent: inputs, core: by_input, tensor: l * row },
                            CoreMode { extent: before, core: by_before, tensor: outputs * n },
                            CoreMode { extent: outputs, core: by_output, tensor: n },
                        ],
                        q: [
                            CoreMode::NONE,
                            CoreMode::NONE,
                            CoreMode { extent: after, core: by_after, tensor: n },
                        ],
                        r: Mode { extent: n, t: 1, out: 1 },
                    };
                    (l, n) = (l * inputs, outputs * n);
                    step
                };
                (cut..self.cores()).rev().map(step).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Chain {
        Chain::new(&[2, 3, 4, 5], &[3, 2, 7, 1], &[4, 3, 2]).unwrap()
    }

    fn all() -> Vec<Vec<Step>> {
        let by_core = End::BOTH.map(|from| chain().steps(from)).into_iter();
        let folds = (1..4).flat_map(|cut| End::BOTH.map(|end| chain().folds(cut, end)));
        by_core.chain(folds).collect()
    }

    /// What a step reads is what the one before it has written, and each element of core, `T` and `out` is one of the step's.
    #[test]
    fn steps_follow_each_other_and_miss_nothing() {
        for steps in all() {
            assert!(steps.windows(2).all(|two| two[0].output() == two[1].input()), "{steps:?}");
            for step in steps.iter().copied().flat_map(|step| [step, step.transposed()]) {
                let elements: usize = chain().core_shape(step.core).iter().product();
                assert_eq!(step.sums() * step.terms(), elements);
                let mut seen = [elements, step.input(), step.output()].map(|count| vec![0; count]);
                let ([s_core, s_out], [q_core, q_in]) = (step.s_offsets(), step.q_offsets());
                assert_eq!((s_core.len(), q_core.len()), (step.sums(), step.terms()));
                assert_eq!(step.transposed().q_offsets(), step.s_offsets());
                for (s, q) in s_core.iter().flat_map(|s| q_core.iter().map(move |q| (s, q))) {
                    seen[0][s + q] += 1;
                }
                for p in 0..step.p.extent {
                    for r in 0..step.r.extent {
                        let (from, to) =
                            (p * step.p.t + r * step.r.t, p * step.p.out + r * step.r.out);
                        q_in.iter().for_each(|q| seen[1][from + q] += 1);
                        s_out.iter().for_each(|s| seen[2][to + s] += 1);
                    }
                }
                assert!(seen.iter().flatten().all(|times| *times == 1), "{step:?}: {seen:?}");
            }
        }
    }

    /// Both halves, multiplied out, are the matrix.
    #[test]
    fn folded_halves_are_the_matrix() {
        let chain = chain();
        let cores: Vec<Vec<f32>> = (0..4)
            .map(|core| {
                let count = chain.core_shape(core).iter().product::<usize>();
                (0..count).map(|at| ((at * 7919 + core) % 19) as f32 - 9.0).collect()
            })
            .collect();
        let half = |cut, end| {
            chain.folds(cut, end).into_iter().fold(vec![1.0], |t, step| {
                let mut out = vec![0.0; step.output()];
                let ([s_core, s_out], [q_core, q_in]) = (step.s_offsets(), step.q_offsets());
                for (s, q) in (0..step.sums()).flat_map(|s| (0..step.terms()).map(move |q| (s, q)))
                {
                    let core = f64::from(cores[step.core][s_core[s] + q_core[q]]);
                    for p in 0..step.p.extent {
                        for r in 0..step.r.extent {
                            out[p * step.p.out + s_out[s] + r * step.r.out] +=
                                core * t[p * step.p.t + q_in[q] + r * step.r.t];
                        }
                    }
                }
                out
            })
        };
        let matrix = super::super::reference::matrix(&chain, &cores);
        for cut in 1..4 {
            let spec = chain.folded(cut);
            let (a, c) = (half(cut, End::Left), half(cut, End::Right));
            for (at, expected) in matrix.iter().enumerate() {
                let (input, output) = (at / spec.outputs(), at % spec.outputs());
                let (j, l, m, n) =
                    (input / spec.l, input % spec.l, output / spec.n, output % spec.n);
                let term = |k| a[(m * spec.k + k) * spec.j + j] * c[(l * spec.k + k) * spec.n + n];
                let got: f64 = (0..spec.k).map(term).sum();
                // Whole numbers: exact.
                assert_eq!(got, *expected, "cut {cut}: {input}, {output}");
            }
        }
    }
}
