//! What is done to each element of a layer's output, and its gradient: over whole tensors, or over the part that a
//! kernel has just written.
//!
//! Plain loops, which the compiler turns into the widest registers of the processor ([`pulp::Arch`] picks at run time).

use pulp::{Arch, Simd, WithSimd};

use super::pool;
use crate::op::activation::Activation;
use crate::op::words;

/// Elements per task: about 10 µs of work, of which passing it to a thread is less than 1 µs. A quarter of them took as long.
pub const PIECE: usize = 32 << 10;

/// Chris Wellons' `lowbias32`, an invertible hash of 32 bits.
#[inline(always)]
fn hash(mut bits: u32) -> u32 {
    bits ^= bits >> 16;
    bits = bits.wrapping_mul(0x7feb_352d);
    bits ^= bits >> 15;
    bits = bits.wrapping_mul(0x846c_a68b);
    bits ^ (bits >> 16)
}

/// A pass over a part of one tensor's elements, which begins at `begin`.
///
/// A plain loop in a method that is always inlined: only so is it compiled for the processor's widest
/// registers, which [`Arch::dispatch`] picks at run time.
pub trait Pass: Sync {
    fn over(&self, begin: usize, part: &mut [f32]);

    /// The same in those registers.
    fn on(&self, begin: usize, part: &mut [f32], arch: Arch)
    where
        Self: Sized,
    {
        arch.dispatch(OnPart { pass: self, begin, part });
    }
}

struct OnPart<'a, P> {
    pass: &'a P,
    begin: usize,
    part: &'a mut [f32],
}

impl<P: Pass> WithSimd for OnPart<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        self.pass.over(self.begin, self.part);
    }
}

/// Applies a pass to all elements, in pieces.
pub fn in_pieces<P: Pass>(elements: &mut [f32], pass: &P) {
    let arch = Arch::new();
    if elements.len() <= PIECE {
        return pass.on(0, elements, arch);
    }
    pool::for_each(elements.chunks_mut(PIECE).enumerate(), |(piece, part)| {
        pass.on(piece * PIECE, part, arch);
    });
}

/// An activation, with the seed by which it drops.
#[derive(Clone, Copy)]
pub struct Active {
    activation: Activation,
    seed: [u32; 2],
}

impl Active {
    /// Nothing.
    pub const NONE: Self = Self { activation: Activation::NONE, seed: [0; 2] };

    /// With the seed that it has among a step's words.
    pub fn new(activation: Activation, words: &[i32]) -> Self {
        let seed = activation.dropout.map_or([0; 2], |dropout| words::seed(words, dropout.seed));
        Self { activation, seed }
    }

    /// Applies it to a part of its elements, which begins at `begin`; on this thread.
    pub fn apply_to(self, begin: usize, part: &mut [f32], arch: Arch) {
        match self.dropping() {
            Some(pass) => pass.on(begin, part, arch),
            None if self.activation.relu => Relu.on(begin, part, arch),
            None => {}
        }
    }

    /// Applies it to all elements, in pieces.
    pub fn apply(self, elements: &mut [f32]) {
        match self.dropping() {
            Some(pass) => in_pieces(elements, &pass),
            None if self.activation.relu => in_pieces(elements, &Relu),
            None => {}
        }
    }

    /// The pass of an activation with dropout.
    fn dropping(self) -> Option<Activated> {
        let Self { activation, seed } = self;
        let threshold = activation.dropout?.threshold();
        Some(Activated { relu: activation.relu, seed, threshold, scale: activation.scale() })
    }
}

struct Relu;

impl Pass for Relu {
    #[inline(always)]
    fn over(&self, _begin: usize, part: &mut [f32]) {
        for x in part {
            // Not `max`, which would turn a NaN into 0 and hide it.
            *x = if *x <= 0.0 { 0.0 } else { *x };
        }
    }
}

/// Dropout, after ReLU if there is one.
struct Activated {
    relu: bool,
    seed: [u32; 2],
    threshold: u32,
    scale: f32,
}

impl Pass for Activated {
    #[inline(always)]
    fn over(&self, begin: usize, part: &mut [f32]) {
        let Self { relu, seed: [low, high], threshold, scale } = *self;
        let mut index = (begin as u32).wrapping_add(low);
        for x in part {
            let kept = if hash(hash(index) ^ high) >= threshold { scale } else { 0.0 };
            // As in `Relu`.
            *x = if relu & (*x <= 0.0) { 0.0 } else { *x * kept };
            index = index.wrapping_add(1);
        }
    }
}

/// The gradient of an activation with ReLU, from its output.
pub struct ReluGrad<'a> {
    /// The output.
    pub y: &'a [f32],
    /// By what an element was multiplied that was kept.
    pub scale: f32,
}

impl Pass for ReluGrad<'_> {
    #[inline(always)]
    fn over(&self, begin: usize, part: &mut [f32]) {
        for (d, y) in part.iter_mut().zip(&self.y[begin..]) {
            *d = if *y > 0.0 { *d * self.scale } else { 0.0 };
        }
    }
}
