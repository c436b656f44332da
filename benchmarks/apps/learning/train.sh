# A job of pruning.py: whatever trains, a shell script reports its epochs by appending lines.
#   PYTHON=python sh train.sh LOSS ETA0 ALPHA EPOCHS SEED SECONDS
epoch=0
"$PYTHON" "${0%/*}/print_curve.py" "$@" | while read -r accuracy; do
    epoch=$((epoch + 1))
    echo "{\"step\": $epoch, \"value\": $accuracy}" >>"$HSM_METRICS"
done
