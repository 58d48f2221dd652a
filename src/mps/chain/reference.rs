//! The layer of a chain and all its gradients in f64, by way of the matrix.
//!
//! ```text
//! W[(i_1 … i_d), (o_1 … o_d)] = Σ G_1[1,o_1,i_1,k_1] … G_d[k_{d-1},o_d,i_d,1]
//! Y = X W + B          grad_B = Σ_b D          grad_X = D Wᵀ          grad_W = Xᵀ D
//! grad_G_t[k,o,i,k']  = Σ L_t[I,O,k] grad_W[(I i I'), (O o O')] R_t[k',I',O']
//! ```
//!
//! where `L_t` is the product of the cores before `t`, and `R_t` that of the cores after it. Every kernel is checked against
//! this; nothing here is fast.

use super::Chain;

/// The operands of one forward and backward pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Operands {
    /// The extents.
    pub chain: Chain,
    /// Number of samples.
    pub batch: usize,
    /// Input `[b, I_1, …, I_d]`.
    pub x: Vec<f32>,
    /// Cores `[K_{t-1}, O_t, I_t, K_t]`.
    pub cores: Vec<Vec<f32>>,
    /// Bias `[O_1, …, O_d]`.
    pub bias: Vec<f32>,
    /// Gradient of the loss with respect to the output, `[b, O_1, …, O_d]`.
    pub grad_y: Vec<f32>,
}

/// The output and the gradients of the loss with respect to every operand.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Output `[b, O_1, …, O_d]`.
    pub y: Vec<f64>,
    /// Gradients with respect to the cores.
    pub grad_cores: Vec<Vec<f64>>,
    /// Gradient with respect to the bias.
    pub grad_bias: Vec<f64>,
    /// Gradient with respect to the input, `[b, I_1, …, I_d]`.
    pub grad_x: Vec<f64>,
}

/// The product of neighbouring cores: `[before, I, O, after]`, with the bonds at its ends open.
struct Part {
    extents: [usize; 4],
    numbers: Vec<f64>,
}

impl Part {
    /// Of no core, between two bonds of this size: the identity.
    fn none(bond: usize) -> Self {
        let numbers = (0..bond * bond).map(|at| f64::from(u8::from(at / bond == at % bond)));
        Self { extents: [bond, 1, 1, bond], numbers: numbers.collect() }
    }

    /// A core `[k, o, i, k']`.
    fn core(core: &[f32], [before, outputs, inputs, after]: [usize; 4]) -> Self {
        let mut numbers = Vec::with_capacity(core.len());
        for k in 0..before {
            for i in 0..inputs {
                for o in 0..outputs {
                    let begin = ((k * outputs + o) * inputs + i) * after;
                    numbers.extend(core[begin..][..after].iter().copied().map(f64::from));
                }
            }
        }
        Self { extents: [before, inputs, outputs, after], numbers }
    }

    fn times(&self, right: &Self) -> Self {
        let ([b, i, o, k], [_, right_i, right_o, after]) = (self.extents, right.extents);
        let extents = [b, i * right_i, o * right_o, after];
        let mut numbers = Vec::with_capacity(extents.iter().product());
        for before in 0..b {
            for (input, right_input) in pairs(i, right_i) {
                for (output, right_output) in pairs(o, right_o) {
                    for last in 0..after {
                        let term = |bond: usize| {
                            let left = self.numbers[((before * i + input) * o + output) * k + bond];
                            let at = ((bond * right_i + right_input) * right_o + right_output)
                                * after
                                + last;
                            left * right.numbers[at]
                        };
                        numbers.push((0..k).map(term).sum());
                    }
                }
            }
        }
        Self { extents, numbers }
    }
}

/// All pairs of indices below two extents, row-major.
fn pairs(one: usize, other: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..one).flat_map(move |first| (0..other).map(move |second| (first, second)))
}

/// The matrix `W[(i_1 … i_d), (o_1 … o_d)]` of a chain, row-major.
pub fn matrix(chain: &Chain, cores: &[Vec<f32>]) -> Vec<f64> {
    let cores = cores.iter().enumerate();
    let parts = cores.map(|(at, core)| Part::core(core, chain.core_shape(at)));
    parts.fold(Part::none(1), |left, part| left.times(&part)).numbers
}

/// Computes the output and all gradients.
pub fn compute(operands: &Operands) -> Outcome {
    let Operands { chain, batch, x, cores, bias, grad_y } = operands;
    let (inputs, outputs) = (chain.input(), chain.output());
    let parts: Vec<Part> =
        cores.iter().enumerate().map(|(at, core)| Part::core(core, chain.core_shape(at))).collect();
    // `left[t]` is the product of the cores before `t`, `right[t]` that of the cores from `t` on.
    let mut left = vec![Part::none(1)];
    for part in &parts {
        left.push(left[left.len() - 1].times(part));
    }
    let mut right = vec![Part::none(1)];
    for part in parts.iter().rev() {
        right.push(part.times(&right[right.len() - 1]));
    }
    right.reverse();

    let w = &left[cores.len()].numbers;
    let mut out = Outcome {
        y: Vec::with_capacity(batch * outputs),
        grad_cores: Vec::with_capacity(cores.len()),
        grad_bias: vec![0.0; outputs],
        grad_x: Vec::with_capacity(batch * inputs),
    };
    let mut grad_w = vec![0.0; inputs * outputs];
    for (x, d) in x.chunks_exact(inputs).zip(grad_y.chunks_exact(outputs)) {
        let mut y: Vec<f64> = bias.iter().copied().map(f64::from).collect();
        for (input, &x) in x.iter().enumerate() {
            let x = f64::from(x);
            let row = &w[input * outputs..][..outputs];
            let grad_row = &mut grad_w[input * outputs..][..outputs];
            let mut grad_x = 0.0;
            for (at, &d) in d.iter().enumerate() {
                y[at] += x * row[at];
                grad_row[at] += x * f64::from(d);
                grad_x += f64::from(d) * row[at];
            }
            out.grad_x.push(grad_x);
        }
        out.y.extend(y);
        out.grad_bias.iter_mut().zip(d).for_each(|(sum, &d)| *sum += f64::from(d));
    }
    for core in 0..cores.len() {
        out.grad_cores.push(grad_core(chain, core, &left[core], &right[core + 1], &grad_w));
    }
    out
}

/// The gradient by a core, between the products of those before and after it.
fn grad_core(chain: &Chain, core: usize, left: &Part, right: &Part, grad_w: &[f64]) -> Vec<f64> {
    let [before, outputs, inputs, after] = chain.core_shape(core);
    let ([_, left_i, left_o, _], [_, right_i, right_o, _]) = (left.extents, right.extents);
    let columns = left_o * outputs * right_o;
    let mut grad = vec![0.0; before * outputs * inputs * after];
    for (i, o) in pairs(inputs, outputs) {
        for (i_left, o_left) in pairs(left_i, left_o) {
            let of_left = &left.numbers[(i_left * left_o + o_left) * before..][..before];
            for (i_right, o_right) in pairs(right_i, right_o) {
                let row = (i_left * inputs + i) * right_i + i_right;
                let column = (o_left * outputs + o) * right_o + o_right;
                let number = grad_w[row * columns + column];
                for (k, of_left) in of_left.iter().enumerate() {
                    for next in 0..after {
                        let of_right =
                            right.numbers[(next * right_i + i_right) * right_o + o_right];
                        grad[((k * outputs + o) * inputs + i) * after + next] +=
                            of_left * number * of_right;
                    }
                }
            }
        }
    }
    grad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mps::reference as two_cores;

    fn operands(inputs: &[usize], outputs: &[usize], bonds: &[usize], batch: usize) -> Operands {
        let chain = Chain::new(inputs, outputs, bonds).unwrap();
        let mut next = 1_u64;
        let mut numbers = |count: usize| -> Vec<f32> {
            (0..count)
                .map(|_| {
                    next = next
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (next >> 40) as f32 / (1 << 23) as f32 - 1.0
                })
                .collect()
        };
        Operands {
            batch,
            x: numbers(batch * chain.input()),
            cores: (0..chain.cores())
                .map(|core| numbers(chain.core_shape(core).iter().product()))
                .collect(),
            bias: numbers(chain.output()),
            grad_y: numbers(batch * chain.output()),
            chain,
        }
    }

    /// One output, as the equation has it: a sum over all inputs and all bonds.
    fn equation(o: &Operands, sample: usize, output: usize) -> f64 {
        let chain = &o.chain;
        let digits = |mut index: usize, extents: &[usize]| -> Vec<usize> {
            let mut digits: Vec<usize> = extents
                .iter()
                .rev()
                .map(|extent| {
                    let digit = index % extent;
                    index /= extent;
                    digit
                })
                .collect();
            digits.reverse();
            digits
        };
        let outputs = digits(output, chain.out_factors());
        let ways: usize = chain.bonds().iter().product();
        let mut sum = f64::from(o.bias[output]);
        for input in 0..chain.input() {
            let inputs = digits(input, chain.in_factors());
            for way in 0..ways {
                let bonds = [vec![0], digits(way, chain.bonds()), vec![0]].concat();
                let factor = |t: usize| {
                    let [_, extent_o, extent_i, after] = chain.core_shape(t);
                    let at = ((bonds[t] * extent_o + outputs[t]) * extent_i + inputs[t]) * after
                        + bonds[t + 1];
                    f64::from(o.cores[t][at])
                };
                let product: f64 = (0..chain.cores()).map(factor).product();
                sum += product * f64::from(o.x[sample * chain.input() + input]);
            }
        }
        sum
    }

    fn loss(o: &Operands) -> f64 {
        let outputs = o.chain.output();
        (0..o.batch * outputs)
            .map(|at| equation(o, at / outputs, at % outputs) * f64::from(o.grad_y[at]))
            .sum()
    }

    #[test]
    fn forward_is_the_equation() {
        for o in [
            operands(&[2, 3, 2], &[2, 1, 3], &[2, 3], 2),
            operands(&[3, 1, 2, 2], &[1, 2, 2, 2], &[1, 2, 5], 1),
        ] {
            let out = compute(&o);
            for (at, got) in out.y.iter().enumerate() {
                let expected = equation(&o, at / o.chain.output(), at % o.chain.output());
                assert!((got - expected).abs() < 1e-12, "{at}: {got} {expected}");
            }
        }
    }

    /// Central differences of the equation against every gradient. The loss is linear in each operand taken alone, so that
    /// the quotient is exact except for rounding: a step of 1/16 changes an f32 below 2 exactly up to 2⁻²⁴, and 1e-5 is some
    /// 80 times the error from that.
    #[test]
    fn gradients_are_the_finite_differences() {
        const STEP: f32 = 1.0 / 16.0;
        let o = operands(&[2, 3, 2], &[2, 1, 3], &[2, 3], 2);
        let out = compute(&o);
        type Pick = Box<dyn Fn(&mut Operands) -> &mut Vec<f32>>;
        let mut picks: Vec<(Pick, &[f64])> = vec![
            (Box::new(|o| &mut o.x), &out.grad_x),
            (Box::new(|o| &mut o.bias), &out.grad_bias),
        ];
        for (core, gradient) in out.grad_cores.iter().enumerate() {
            picks.push((Box::new(move |o| &mut o.cores[core]), gradient));
        }
        for (number, (pick, gradient)) in picks.into_iter().enumerate() {
            for (at, &expected) in gradient.iter().enumerate() {
                let shifted = |step: f32| {
                    let mut o = o.clone();
                    pick(&mut o)[at] += step;
                    (loss(&o), f64::from(pick(&mut o)[at]))
                };
                let ((high, above), (low, below)) = (shifted(STEP), shifted(-STEP));
                let got = (high - low) / (above - below);
                assert!((got - expected).abs() < 1e-5, "{number}, {at}: {got} {expected}");
            }
        }
    }

    /// A chain of two cores is the layer of `A` and `C`.
    #[test]
    fn two_cores_are_the_layer_of_two_cores() {
        let o = operands(&[3, 5], &[4, 2], &[3], 3);
        let out = compute(&o);
        let spec = o.chain.folded(1);
        // A[m,k,j] from G_1[1,m,j,k] and C[l,k,n] from G_2[k,n,l,1].
        let permuted = |core: &[f32], extents: [usize; 3], strides: [usize; 3]| {
            let mut numbers = Vec::new();
            for e in 0..extents[0] {
                for (f, g) in pairs(extents[1], extents[2]) {
                    numbers.push(core[e * strides[0] + f * strides[1] + g * strides[2]]);
                }
            }
            numbers
        };
        let (m, n, j, l, k) = (spec.m, spec.n, spec.j, spec.l, spec.k);
        let expected = two_cores::compute(&two_cores::Operands {
            spec,
            batch: o.batch,
            x: o.x.clone(),
            a: permuted(&o.cores[0], [m, k, j], [j * k, 1, k]),
            c: permuted(&o.cores[1], [l, k, n], [1, n * l, l]),
            bias: o.bias.clone(),
            grad_y: o.grad_y.clone(),
        });
        let near = |got: &[f64], expected: &[f64]| {
            got.len() == expected.len()
                && got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-12)
        };
        assert!(near(&out.y, &expected.y) && near(&out.grad_x, &expected.grad_x));
        assert!(near(&out.grad_bias, &expected.grad_bias));
        let f32s =
            |numbers: &[f64]| numbers.iter().map(|&number| number as f32).collect::<Vec<_>>();
        let grad_a = permuted(&f32s(&out.grad_cores[0]), [m, k, j], [j * k, 1, k]);
        assert_eq!(grad_a, f32s(&expected.grad_a));
    }
}
