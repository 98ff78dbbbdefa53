package optim

// DefaultRate is the learning rate that a rule starts from when a job gives none: the rule's own paper's or PyTorch's.
func DefaultRate(name string) float64 {
	switch name {
	case "sgd", "momentum", "nesterov", "adagrad", "rmsprop":
		return 0.01
	case "ftrl":
		return 0.1
	case "lars":
		return 1
	}
	return 0.001
}
