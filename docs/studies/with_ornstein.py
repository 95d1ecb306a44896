from moons import figure, moons

import ornstein
from ornstein import path, solvers, target

kinds = {
    "flow matching": {"path": path.Linear(), "target": target.Velocity()},
    "DDPM": {"path": path.Betas.linear(), "target": target.Noise()},
}
how = {"ODE": solvers.ABM(), "SDE": solvers.SDEDPMSolverPP(), "PC": solvers.PredictorCorrector()}
samples, nats = {}, {}
for name, kind in kinds.items():
    run = ornstein.train(moons(4000, 0), **kind, preset="tiny", steps=1000)
    for solver in how:
        samples[f"{name}, {solver}"] = run.sample(300, solver=how[solver], steps=30)
    nats[name] = run.log_prob(moons(64, 1)).mean()
figure(samples, nats, "moons.png")
