//! SE-ResNeXt: grouped bottlenecks with squeeze-and-excitation (Hu et al., CVPR 2018, arXiv:1709.01507;
//! Xie et al., CVPR 2017, arXiv:1611.05431).

use super::{MaxPool, ResNetConfig, Stem};
use crate::attention::SqueezeExcitationConfig;

impl ResNetConfig<SqueezeExcitationConfig> {
    /// SE-ResNeXt-50 32x4d with 2048 channels, as in Cadene's pretrained weights: squeeze-and-excitation in
    /// every block, and max pooling without padding.
    ///
    /// ```
    /// use reid_core::InputSize;
    /// use reid_nn::{BlockConfig, backbone::ResNetConfig};
    ///
    /// let config = ResNetConfig::se_resnext50().with_last_stride(1);
    /// assert_eq!(config.output(InputSize::new(288, 384).rgb()).to_string(), "2048x18x24");
    /// ```
    #[must_use]
    pub fn se_resnext50() -> Self {
        Self::with_squeeze_excitation(ResNetConfig::resnext50())
    }

    /// SE-ResNeXt-101 32x4d with 2048 channels, as in Cadene's pretrained weights.
    #[must_use]
    pub fn se_resnext101() -> Self {
        Self::with_squeeze_excitation(ResNetConfig::resnext101())
    }

    fn with_squeeze_excitation(plain: ResNetConfig) -> Self {
        let stem = Stem::Large(MaxPool::Ceil);
        plain.with_stem(stem).inside(SqueezeExcitationConfig::new())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use reid_core::InputSize;

    use super::*;
    use crate::{BlockConfig, parameters};

    #[test]
    fn parameter_counts_match_the_published_ones() {
        let image = InputSize::PERSON.rgb();
        // Convolutions, normalisations and gates, without the classifier.
        let cases = [
            (ResNetConfig::se_resnext50(), 25_510_896),
            (ResNetConfig::se_resnext101(), 46_906_416),
        ];
        for (config, count) in cases {
            let network = config.init(image, &crate::fixtures::init(&Device::default()));
            assert_eq!(parameters::count(&network), count);
        }
    }
}
