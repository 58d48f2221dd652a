"""The network with the article's own stack: Keras, and Google's TensorNetwork under `tf.vectorized_map`."""

import os
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import tensorflow as tf
import tensornetwork as tn

from common import BATCH, DROPOUT, SEED, arguments, load, report

args = arguments(__doc__, ["mps", "dense"]).parse_args()
keras.utils.set_random_seed(SEED)


class Mps(keras.layers.Layer):
    """A tensor network from `j * l` inputs to `m * n` outputs."""

    def __init__(self, bond, m=32, n=16, j=28, l=28):
        super().__init__()
        self.in_factors, self.outputs = (j, l), m * n
        normal = keras.initializers.RandomNormal(stddev=1 / 32)
        self.a = self.add_weight(shape=(m, j, bond), initializer=normal)
        self.c = self.add_weight(shape=(n, l, bond), initializer=normal)
        self.bias = self.add_weight(shape=(m, n), initializer="zeros")

    def call(self, x):
        weights = [tf.convert_to_tensor(weight) for weight in (self.a, self.c, self.bias)]

        def sample(x):
            folded = tf.reshape(x, self.in_factors)
            a, c, x = (tn.Node(tensor, backend="tensorflow") for tensor in (*weights[:2], folded))
            a[1] ^ x[0]
            c[1] ^ x[1]
            a[2] ^ c[2]
            return ((a @ x) @ c).tensor + weights[2]

        return tf.reshape(tf.vectorized_map(sample, x), (-1, self.outputs))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.outputs)


network = keras.Sequential(
    [
        keras.Input((784,)),
        keras.layers.Dense(512) if args.layer == "dense" else Mps(args.bond),
        keras.layers.Activation("relu"),
        keras.layers.Dropout(DROPOUT),
        keras.layers.Dense(512, activation="relu"),
        keras.layers.Dropout(DROPOUT),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
# Keras' Adam has the learning rate 0.001.
network.compile(loss="sparse_categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
train_x, train_y, test_x, test_y = load(args.images)

network.fit(train_x, train_y, batch_size=BATCH, epochs=1, verbose=0)
started = time.perf_counter()
network.fit(train_x, train_y, batch_size=BATCH, epochs=args.epochs, verbose=0)
seconds = time.perf_counter() - started

accuracy = network.evaluate(test_x, test_y, verbose=0)[1]
report(f"keras {keras.__version__} tensorflow {tf.__version__}", args, seconds, float(accuracy))
