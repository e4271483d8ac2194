#!/bin/sh
# The entrypoint of the quick start's image. As in other images of game servers, $STARTUP is the startup command, in which
# ${NAME} or {{NAME}} is an environment variable.
cd /home/container || exit 1
command=$(printf '%s' "$STARTUP" | sed -e 's/{{/${/g' -e 's/}}/}/g')
echo ":/home/container\$ $command"
# exec: the game gets the signals of the container, and its exit code is the container's.
eval "exec $command"
