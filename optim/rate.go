package optim

// DefaultRate is the learning rate that a rule starts from when a job gives none: the rule's own paper's or PyTorch's.
func DefaultRate(name string) float64 {
	switch name {
	case "sgd", "momentum", "nesterov", "adagrad", "rmsprop":
		return 0.01
	case "ftrl": // the paper's are for single samples, whose gradients are larger than a batch's mean
		return 0.5
	case "lars":
		return 1
	}
	return 0.001
}
