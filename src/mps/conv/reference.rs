//! A convolution of two cores and all its gradients in f64, as the layer of two cores applied to every patch.

use super::Window;
use crate::mps::MpsSpec;
use crate::mps::reference as two_cores;

/// The operands of one forward and backward pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Operands {
    /// What is convolved.
    pub window: Window,
    /// The layer that is applied to every patch.
    pub spec: MpsSpec,
    /// Number of samples.
    pub batch: usize,
    /// Images `[b, J, height, width]`.
    pub x: Vec<f32>,
    /// Core `[M, K, J]`.
    pub a: Vec<f32>,
    /// Core `[L, K, N]`.
    pub c: Vec<f32>,
    /// Bias `[M, N]`.
    pub bias: Vec<f32>,
    /// Gradient of the loss with respect to the output, `[b, M·N, height', width']`.
    pub grad_y: Vec<f32>,
}

/// The output and the gradients, shaped like the operands.
pub use two_cores::Outcome;

/// Computes the output and all gradients.
pub fn compute(operands: &Operands) -> Outcome {
    let Operands { window, spec, batch, x, a, c, bias, grad_y } = operands;
    let ([channels, height, width], [rows, columns]) = (window.input, window.output());
    let (taps, positions, outputs) = (window.taps(), rows * columns, spec.outputs());
    let at_x = |b: usize, j: usize, [row, column]: [usize; 2]| {
        ((b * channels + j) * height + row) * width + column
    };
    let at_y =
        |b: usize, output: usize, position: usize| (b * outputs + output) * positions + position;
    let mut patches = Vec::with_capacity(batch * positions * channels * taps);
    let mut grads = Vec::with_capacity(batch * positions * outputs);
    for b in 0..*batch {
        for position in 0..positions {
            for j in 0..channels {
                for tap in 0..taps {
                    let under = window.under([position / columns, position % columns], tap);
                    patches.push(under.map_or(0.0, |under| x[at_x(b, j, under)]));
                }
            }
            grads.extend((0..outputs).map(|output| grad_y[at_y(b, output, position)]));
        }
    }
    let of_patches = two_cores::compute(&two_cores::Operands {
        spec: *spec,
        batch: batch * positions,
        x: patches,
        a: a.clone(),
        c: c.clone(),
        bias: bias.clone(),
        grad_y: grads,
    });
    let mut outcome = Outcome {
        y: vec![0.0; batch * outputs * positions],
        grad_x: vec![0.0; x.len()],
        ..of_patches.clone()
    };
    for b in 0..*batch {
        for position in 0..positions {
            let patch = b * positions + position;
            for output in 0..outputs {
                outcome.y[at_y(b, output, position)] = of_patches.y[patch * outputs + output];
            }
            for j in 0..channels {
                for tap in 0..taps {
                    let under = window.under([position / columns, position % columns], tap);
                    let Some(under) = under else { continue };
                    outcome.grad_x[at_x(b, j, under)] +=
                        of_patches.grad_x[(patch * channels + j) * taps + tap];
                }
            }
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operands() -> Operands {
        let window = Window::new([2, 4, 5], [3, 2], 2, 1).unwrap();
        let spec = window.two_cores([2, 3], 2).unwrap();
        let [rows, columns] = window.output();
        let mut next = 0_usize;
        let mut numbers = |count: usize| -> Vec<f32> {
            (0..count)
                .map(|_| {
                    next += 1;
                    (next * 7919 % 101) as f32 / 51.0 - 1.0
                })
                .collect()
        };
        Operands {
            batch: 2,
            x: numbers(2 * 2 * 4 * 5),
            a: numbers(spec.a_shape().iter().product()),
            c: numbers(spec.c_shape().iter().product()),
            bias: numbers(spec.outputs()),
            grad_y: numbers(2 * spec.outputs() * rows * columns),
            window,
            spec,
        }
    }

    /// The equation, one sum over channels, bond and taps.
    fn equation(o: &Operands) -> Vec<f64> {
        let (spec, window) = (o.spec, o.window);
        let ([_, height, width], [rows, columns]) = (window.input, window.output());
        let mut y = Vec::new();
        for b in 0..o.batch {
            for (m, n) in (0..spec.m).flat_map(|m| (0..spec.n).map(move |n| (m, n))) {
                for position in 0..rows * columns {
                    let mut sum = f64::from(o.bias[m * spec.n + n]);
                    for j in 0..spec.j {
                        for l in 0..spec.l {
                            let at = |at: usize, tap: usize| {
                                (at * window.stride + tap) as isize - window.padding as isize
                            };
                            let row = at(position / columns, l / window.kernel[1]);
                            let column = at(position % columns, l % window.kernel[1]);
                            if row < 0
                                || column < 0
                                || row >= height as isize
                                || column >= width as isize
                            {
                                continue;
                            }
                            let x = o.x[((b * spec.j + j) * height + row as usize) * width
                                + column as usize];
                            for k in 0..spec.k {
                                sum += f64::from(o.a[(m * spec.k + k) * spec.j + j])
                                    * f64::from(o.c[(l * spec.k + k) * spec.n + n])
                                    * f64::from(x);
                            }
                        }
                    }
                    y.push(sum);
                }
            }
        }
        y
    }

    #[test]
    fn forward_is_the_equation() {
        let o = operands();
        let got = compute(&o).y;
        for (got, expected) in got.iter().zip(equation(&o)) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
    }

    /// As in the reference of two cores: the loss is linear in each operand, so that central differences are exact but for
    /// rounding.
    #[test]
    fn gradients_are_the_finite_differences() {
        const STEP: f32 = 1.0 / 16.0;
        let o = operands();
        let out = compute(&o);
        let loss = |o: &Operands| -> f64 {
            equation(o).iter().zip(&o.grad_y).map(|(y, &d)| y * f64::from(d)).sum()
        };
        type Pick = fn(&mut Operands) -> &mut Vec<f32>;
        let picks: [(&str, Pick, &[f64]); 4] = [
            ("a", |o| &mut o.a, &out.grad_a),
            ("c", |o| &mut o.c, &out.grad_c),
            ("bias", |o| &mut o.bias, &out.grad_bias),
            ("x", |o| &mut o.x, &out.grad_x),
        ];
        for (name, pick, gradient) in picks {
            for (at, &expected) in gradient.iter().enumerate() {
                let shifted = |step: f32| {
                    let mut o = o.clone();
                    pick(&mut o)[at] += step;
                    (loss(&o), f64::from(pick(&mut o)[at]))
                };
                let ((high, above), (low, below)) = (shifted(STEP), shifted(-STEP));
                let got = (high - low) / (above - below);
                assert!((got - expected).abs() < 1e-5, "grad_{name}[{at}]: {got} {expected}");
            }
        }
    }
}
