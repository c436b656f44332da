"""What `train.sh` runs: prints the accuracy after each epoch, and knows nothing of hsm.

python print_curve.py LOSS ETA0 ALPHA EPOCHS SEED SECONDS
"""

from __future__ import annotations

import sys
import time

from apps.learning.curves import learn

if __name__ == "__main__":
    loss, eta0, alpha, epochs, seed, seconds = sys.argv[1:]
    for accuracy in learn(loss, float(eta0), float(alpha), epochs=int(epochs), seed=int(seed)):
        print(accuracy, flush=True)
        time.sleep(float(seconds))  # as an epoch of a larger model takes
