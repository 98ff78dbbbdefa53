package direct

// Limbs is how many float32 carry one statistic.
const Limbs = limbs
