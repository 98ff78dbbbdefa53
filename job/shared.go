package job

import "slices"

// Hogwild is the strategy of package hogwild, by name.
const Hogwild = "hogwild"

// fillHogwild checks what goes with workers that share one vector.
func (j *Job) fillHogwild() error {
	for _, key := range []string{"bucket", "algorithm", "shard", "compress", "adapt", "partition"} {
		if j.chosen(key) {
			return j.Errorf(key, "workers read and write one vector and send nothing: leave it out, or use ps:mode=async")
		}
	}
	switch {
	case j.simulated:
		return j.Errorf("strategy", "hogwild: in a simulation goroutines take turns, and none writes over what another one does: simulate ps:mode=async")
	case j.Optimizer != "sgd":
		return j.Errorf("optimizer", "hogwild moves the parameters that a sample has along its gradient, as sgd does: give --optimizer sgd")
	case !slices.Contains([]string{"", Inproc}, j.Transport):
		return j.Errorf("transport", "hogwild: workers share a vector in the memory of one process: give --transport inproc, or --strategy ps:mode=async")
	}
	j.Transport = Inproc
	return nil
}
