//! The loops that all CPU kernels come down to. Their rows have [`LANES`] numbers: the outputs of a product, or one number each of
//! as many samples, side by side.
//!
//! `pulp` picks the widest registers of the processor at run time (AVX-512, AVX2, NEON, …).

mod gathered;
mod outer;
mod product;
mod transpose;

use pulp::{Arch, Simd, WithSimd};

pub use gathered::{Gathered, Places};
pub use outer::Outer;
pub use product::Product;
pub use transpose::Transpose;

pub use crate::mps::view::CPU_LANES as LANES;

/// Adds `terms` to `sum`, element by element.
pub fn add(sum: &mut [f32], terms: &[f32]) {
    struct Add<'a>(&'a mut [f32], &'a [f32]);

    impl WithSimd for Add<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _simd: S) {
            self.0.iter_mut().zip(self.1).for_each(|(sum, term)| *sum += term);
        }
    }

    Arch::new().dispatch(Add(sum, terms));
}
