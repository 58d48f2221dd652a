//! The layer and all its gradients in f64, as plain loops over the equation.
//!
//! Every kernel is checked against this; nothing here is fast. Arrays are row-major:
//! `x[b,j,l]`, `a[m,k,j]`, `c[l,k,n]`, `bias[m,n]`, `y` and `grad_y` `[b,m,n]`.

use super::MpsSpec;

/// The operands of one forward and backward pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Operands {
    /// The extents.
    pub spec: MpsSpec,
    /// Number of samples.
    pub batch: usize,
    /// Input `[b, J, L]`.
    pub x: Vec<f32>,
    /// Core `[M, K, J]`.
    pub a: Vec<f32>,
    /// Core `[L, K, N]`.
    pub c: Vec<f32>,
    /// Bias `[M, N]`.
    pub bias: Vec<f32>,
    /// Gradient of the loss with respect to the output, `[b, M, N]`.
    pub grad_y: Vec<f32>,
}

/// The output and the gradients of the loss with respect to every operand.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Output `[b, M, N]`.
    pub y: Vec<f64>,
    /// Gradient with respect to core `A`, `[M, K, J]`.
    pub grad_a: Vec<f64>,
    /// Gradient with respect to core `C`, `[L, K, N]`.
    pub grad_c: Vec<f64>,
    /// Gradient with respect to the bias, `[M, N]`.
    pub grad_bias: Vec<f64>,
    /// Gradient with respect to the input, `[b, J, L]`.
    pub grad_x: Vec<f64>,
}

/// Computes the output and all gradients.
///
/// ```text
/// U[j,k,n] = Σ_l X[j,l] C[l,k,n]          Y[m,n]      = Σ_{j,k} A[m,k,j] U[j,k,n] + B[m,n]
/// grad_bias[m,n] = Σ_b D[m,n]             grad_a[m,k,j] = Σ_{b,n} D[m,n] U[j,k,n]
/// V[j,k,n] = Σ_m A[m,k,j] D[m,n]          grad_c[l,k,n] = Σ_{b,j} X[j,l] V[j,k,n]
///                                         grad_x[j,l]   = Σ_{k,n} V[j,k,n] C[l,k,n]
/// ```
pub fn compute(operands: &Operands) -> Outcome {
    let Operands { spec, batch, x, a, c, bias, grad_y } = operands;
    let MpsSpec { m: em, n: en, j: ej, l: el, k: ek } = *spec;
    let mut out = Outcome {
        y: Vec::with_capacity(batch * em * en),
        grad_a: vec![0.0; a.len()],
        grad_c: vec![0.0; c.len()],
        grad_bias: vec![0.0; bias.len()],
        grad_x: vec![0.0; x.len()],
    };
    let at_a = |m, k, j| (m * ek + k) * ej + j;
    let at_c = |l, k, n| (l * ek + k) * en + n;
    let at_u = |j, k, n| (j * ek + k) * en + n;
    let mut u = vec![0.0_f64; ej * ek * en];
    let mut v = vec![0.0_f64; ej * ek * en];

    for b in 0..*batch {
        let at_x = |j, l| (b * ej + j) * el + l;
        let at_y = |m, n| (b * em + m) * en + n;
        u.fill(0.0);
        v.fill(0.0);
        for j in 0..ej {
            for k in 0..ek {
                for n in 0..en {
                    for l in 0..el {
                        u[at_u(j, k, n)] += f64::from(x[at_x(j, l)]) * f64::from(c[at_c(l, k, n)]);
                    }
                    for m in 0..em {
                        v[at_u(j, k, n)] +=
                            f64::from(a[at_a(m, k, j)]) * f64::from(grad_y[at_y(m, n)]);
                    }
                }
            }
        }
        for m in 0..em {
            for n in 0..en {
                let mut y = f64::from(bias[m * en + n]);
                let d = f64::from(grad_y[at_y(m, n)]);
                for j in 0..ej {
                    for k in 0..ek {
                        y += f64::from(a[at_a(m, k, j)]) * u[at_u(j, k, n)];
                        out.grad_a[at_a(m, k, j)] += d * u[at_u(j, k, n)];
                    }
                }
                out.y.push(y);
                out.grad_bias[m * en + n] += d;
            }
        }
        for j in 0..ej {
            for l in 0..el {
                for k in 0..ek {
                    for n in 0..en {
                        out.grad_c[at_c(l, k, n)] += f64::from(x[at_x(j, l)]) * v[at_u(j, k, n)];
                        out.grad_x[at_x(j, l)] += v[at_u(j, k, n)] * f64::from(c[at_c(l, k, n)]);
                    }
                }
            }
        }
    }
    out
}

/// The error measure of this project: `‖got − reference‖ / ‖reference‖`, and 0 if both are 0. It is
/// not finite if `got` is not, and infinite if only the reference is 0 or the lengths differ.
pub fn relative_error(got: &[f32], reference: &[f64]) -> f64 {
    if got.len() != reference.len() {
        return f64::INFINITY;
    }
    let mut difference = 0.0;
    let mut norm = 0.0;
    for (&got, &reference) in got.iter().zip(reference) {
        difference += (f64::from(got) - reference).powi(2);
        norm += reference.powi(2);
    }
    if difference == 0.0 { 0.0 } else { (difference / norm).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in [-1, 1) from a linear congruential generator: enough to tell elements apart.
    fn numbers(count: usize, mut state: u32) -> Vec<f32> {
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn operands() -> Operands {
        let spec = MpsSpec::new([3, 5], [4, 2], 3).unwrap();
        let batch = 2;
        Operands {
            spec,
            batch,
            x: numbers(batch * spec.inputs(), 1),
            a: numbers(spec.a_shape().iter().product(), 2),
            c: numbers(spec.c_shape().iter().product(), 3),
            bias: numbers(spec.outputs(), 4),
            grad_y: numbers(batch * spec.outputs(), 5),
        }
    }

    /// The equation of the layer, one sum over `j`, `k` and `l` with no intermediate.
    fn equation(o: &Operands) -> Vec<f64> {
        let MpsSpec { m: em, n: en, j: ej, l: el, k: ek } = o.spec;
        let mut y = Vec::new();
        for b in 0..o.batch {
            for m in 0..em {
                for n in 0..en {
                    let mut sum = f64::from(o.bias[m * en + n]);
                    for j in 0..ej {
                        for k in 0..ek {
                            for l in 0..el {
                                sum += f64::from(o.a[(m * ek + k) * ej + j])
                                    * f64::from(o.c[(l * ek + k) * en + n])
                                    * f64::from(o.x[(b * ej + j) * el + l]);
                            }
                        }
                    }
                    y.push(sum);
                }
            }
        }
        y
    }

    /// The loss whose gradient with respect to `y` is `grad_y`.
    fn loss(o: &Operands) -> f64 {
        equation(o).iter().zip(&o.grad_y).map(|(y, &d)| y * f64::from(d)).sum()
    }

    #[test]
    fn forward_is_the_equation() {
        let o = operands();
        for (got, expected) in compute(&o).y.iter().zip(equation(&o)) {
            assert!((got - expected).abs() < 1e-13, "{got} {expected}");
        }
    }

    /// Central differences of the equation against every gradient. The loss is linear in each
    /// operand taken alone, so the difference quotient is exact except for rounding: the operands
    /// are f32, a step of 1/16 changes them exactly up to 2⁻²⁴ of a number below 2, and 1e-5 is 80
    /// times the error from that (1.2e-7).
    #[test]
    fn gradients_are_the_finite_differences() {
        let o = operands();
        let out = compute(&o);
        type Pick = fn(&mut Operands) -> &mut Vec<f32>;
        let picks: [(&str, Pick, &[f64]); 4] = [
            ("a", |o| &mut o.a, &out.grad_a),
            ("c", |o| &mut o.c, &out.grad_c),
            ("bias", |o| &mut o.bias, &out.grad_bias),
            ("x", |o| &mut o.x, &out.grad_x),
        ];
        const STEP: f32 = 1.0 / 16.0;
        for (name, pick, gradient) in picks {
            for (i, &expected) in gradient.iter().enumerate() {
                let shifted = |step: f32| {
                    let mut o = o.clone();
                    pick(&mut o)[i] += step;
                    (loss(&o), f64::from(pick(&mut o)[i]))
                };
                let ((high, above), (low, below)) = (shifted(STEP), shifted(-STEP));
                let got = (high - low) / (above - below);
                assert!((got - expected).abs() < 1e-5, "grad_{name}[{i}]: {got} {expected}");
            }
        }
    }

    #[test]
    fn the_distance_knows_zero_and_infinity() {
        assert_eq!(relative_error(&[0.0], &[0.0]), 0.0);
        assert_eq!(relative_error(&[1.0], &[0.0]), f64::INFINITY);
        assert!(relative_error(&[f32::NAN], &[1.0]).is_nan());
        assert_eq!(relative_error(&[3.0, 0.0], &[0.0, 4.0]), 1.25);
        assert_eq!(relative_error(&[], &[1.0]), f64::INFINITY);
    }
}
