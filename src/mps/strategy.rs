//! The ways to compute a pass, and what they are computed on.

use serde::{Deserialize, Serialize};

/// How the layer is computed. All give the same numbers but for rounding; which is fastest depends on
/// extents, batch and device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The readable kernels, 16 outputs per invocation; the CPU device has none.
    Plain,
    /// Tiles of both contractions kept in registers: more text, fewer loads.
    Tiled,
    /// `W` rebuilt from the cores, then one matrix product, as a dense layer does.
    Rebuilt,
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Tiled, Self::Rebuilt];

    /// Those that a target has kernels for.
    pub fn of(target: Target) -> &'static [Self] {
        match target {
            Target::Cpu => &[Self::Tiled, Self::Rebuilt],
            Target::Software | Target::Gpu => &Self::ALL,
        }
    }

    /// Its name, as `TNET_STRATEGY` and the benchmark's rows have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tiled => "tiled",
            Self::Rebuilt => "rebuilt",
        }
    }
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|strategy| strategy.name() == text);
        found.ok_or_else(|| format!("'{text}': expected plain, tiled or rebuilt"))
    }
}

/// What computes, as far as a plan depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The CPU device.
    Cpu,
    /// A software adapter, which computes on the CPU's cores: a barrier, a launch, and a load that differs between
    /// invocations cost much.
    Software,
    /// A GPU.
    Gpu,
}

impl std::str::FromStr for Target {
    type Err = String;

    /// A kind of adapter, as `TNET_TARGET` has it.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "gpu" => Ok(Self::Gpu),
            "software" => Ok(Self::Software),
            _ => Err(format!("'{text}': expected gpu or software")),
        }
    }
}
