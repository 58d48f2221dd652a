//! What the classes of a data set are called.

use super::fashion_mnist::TEST_SHA256;

/// Those of Fashion-MNIST, in the order of its labels.
const FASHION_MNIST: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// A name for each of so many classes: those of Fashion-MNIST where the test images are its own
/// ([`super::ImageSet::sha256`]), else numbers from 0.
pub fn class_names(test_sha256: Option<&str>, classes: usize) -> Vec<String> {
    match test_sha256 {
        Some(TEST_SHA256) if classes == FASHION_MNIST.len() => {
            FASHION_MNIST.map(str::to_owned).to_vec()
        }
        _ => (0..classes).map(|class| class.to_string()).collect(),
    }
}
