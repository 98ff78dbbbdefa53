package place

import (
	"strconv"
	"strings"
)

// firstSpecial is the first of the step ids that are no srun's tasks: the script of a batch job, the shell of salloc, what runs
// beside a job. (Slurm's slurm.h; for the shell, SLURM_STEP_ID is 4294967290.)
const firstSpecial = 0xfffffff0

// fromSlurm reads what srun tells its tasks. A batch script and what runs in it see most of the same variables, SLURM_PROCID
// and SLURM_NTASKS among them, but are no task: they have no step. And they have another job's or step's variables where they
// were submitted from a task (sbatch hands its environment on), which shows by numbers that do not fit each other.
func fromSlurm(e env) (*claim, error) {
	text := e.first("SLURM_STEP_ID", "SLURM_STEPID")
	if text == "" {
		return nil, nil
	}
	step, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil, errorf("SLURM_STEP_ID", "is %.40q, expected a whole number", text)
	}
	if step >= firstSpecial {
		return nil, nil
	}
	c := &claim{Place: Place{Launcher: Slurm, Job: slurmJob(e)}, rankName: "SLURM_PROCID", sizeName: "SLURM_STEP_NUM_TASKS", missing: "SLURM_STEP_NODELIST is not set, either"}
	if e(c.sizeName) == "" {
		c.sizeName = "SLURM_NTASKS"
	}
	if c.Size, err = e.number(c.sizeName, 1, maxSize); err != nil {
		return nil, err
	}
	if e("SLURM_NTASKS") != "" && e("SLURM_NTASKS") != strconv.Itoa(c.Size) {
		return nil, nil // the step's size is of a step around the job, or the job's of an allocation around the step's shell
	}
	if c.Size == 1 && e("SLURM_PTY_PORT") != "" {
		return nil, nil // a shell that somebody types in
	}
	if err := e.ranks(c); err != nil {
		return nil, err
	}
	if c.LocalRank, err = e.maybe(0, maxSize-1, "SLURM_LOCALID"); err != nil {
		return nil, err
	}
	if c.LocalSize, err = tasksHere(e, c.Size); err != nil {
		return nil, err
	}
	if ids := e("SLURM_GTIDS"); ids != "" && c.LocalSize > 0 && strings.Count(ids, ",")+1 != c.LocalSize {
		return nil, nil // a batch script is one task, whatever the step around it has
	}
	c.Host = e("SLURMD_NODENAME")
	for _, name := range []string{"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"} {
		if list := e(name); list != "" && c.host == "" {
			if c.host, err = FirstNode(list); err != nil {
				return nil, errorf(name, "is wrong: %w", err)
			}
			c.hostName = name
		}
	}
	return c, nil
}

// slurmJob is the job's id and the step's, as Slurm writes them together.
func slurmJob(e env) string {
	id := e.first("SLURM_JOB_ID", "SLURM_JOBID")
	step := e.first("SLURM_STEP_ID", "SLURM_STEPID")
	if id == "" || step == "" {
		return id
	}
	return id + "." + step
}

// allocated is the first host of the Slurm job that a launcher runs in, or "".
func allocated(e env) (host, name string, err error) {
	name = "SLURM_JOB_NODELIST"
	if e(name) == "" {
		name = "SLURM_NODELIST"
	}
	if e.first("SLURM_JOB_ID", "SLURM_JOBID") == "" || e(name) == "" {
		return "", "", nil
	}
	if host, err = FirstNode(e(name)); err != nil {
		return "", "", errorf(name, "is wrong: %w", err)
	}
	return host, name, nil
}

// tasksHere is how many of the step's tasks this node has, or 0 when that is not said: 2(x3),1 are two on each of three nodes
// and one on the next.
func tasksHere(e env, size int) (int, error) {
	name := "SLURM_STEP_TASKS_PER_NODE"
	if e(name) == "" {
		name = "SLURM_TASKS_PER_NODE"
	}
	list := e(name)
	if list == "" || e("SLURM_NODEID") == "" {
		return 0, nil
	}
	node, err := e.number("SLURM_NODEID", 0, maxSize-1)
	if err != nil {
		return 0, err
	}
	if len(list) > maxList {
		return 0, errorf(name, "is longer than %d bytes", maxList)
	}
	passed := 0
	for part := range strings.SplitSeq(list, ",") {
		count, times, repeated := strings.Cut(part, "(x")
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 || n > size {
			return 0, errorf(name, "%.40q: expected numbers of tasks, as in 2(x3),1", part)
		}
		nodes := 1
		if repeated {
			digits, closed := strings.CutSuffix(times, ")")
			if nodes, err = strconv.Atoi(digits); err != nil || !closed || nodes < 1 || nodes > maxSize {
				return 0, errorf(name, "%.40q: expected numbers of tasks, as in 2(x3),1", part)
			}
		}
		if node < passed+nodes {
			return n, nil
		}
		passed += nodes // no overflow: a list of maxList bytes has few parts
	}
	return 0, errorf(name, "is of %d nodes, but SLURM_NODEID is %d", passed, node)
}
