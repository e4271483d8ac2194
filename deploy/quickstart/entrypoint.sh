#!/bin/sh
# The entrypoint of the quick start's image. As in the usual images of game servers, the daemon hands over the startup
# command in $STARTUP, in which ${NAME} (or {{NAME}}) stands for a variable of the environment.
cd /home/container || exit 1
command=$(printf '%s' "$STARTUP" | sed -e 's/{{/${/g' -e 's/}}/}/g')
echo ":/home/container\$ $command"
# A shell between, so that the game's signals and its end are the container's.
eval "exec $command"
