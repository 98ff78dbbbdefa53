package mpi

import "github.com/covey-ml/covey/comm"

// costs are what this transport's messages cost: those of shared memory, with a guess of what frames, copies and looking
// add. They are not fitted to any machine (MeasureCosts does that for a group): every rank must choose by the same ones.
var costs = func() comm.Costs {
	c := comm.ShmCosts
	c.Name, c.Board = "mpi", comm.BoardCosts{}
	c.Alpha, c.Message, c.Beta, c.BetaBeyond = 3e-6, 1e-6, 0.3e-9, 0.5e-9
	return c
}()
