package comm

// WorkOn is what an algorithm asks for over t, which it must fit, for a vector of so many bytes: Work, but for Shared, which
// sums short vectors in one meeting.
func (a Algorithm) WorkOn(t Tree, bytes int) Work {
	if a == Shared {
		return sharedWork(t, bytes)
	}
	return a.Work(t)
}

// Price is Time in its three parts, in seconds: what rounds and messages cost (the alpha term), what bytes that are sent or
// received do (the beta term) and what additions do (the gamma term).
func (c Costs) Price(a Algorithm, t Tree, bytes int) (latency, bandwidth, adding float64) {
	s := c.terms(a, t, bytes)
	return s[termRounds] + s[termMessages], s[termBytes] + s[termFar], s[termAdded]
}
