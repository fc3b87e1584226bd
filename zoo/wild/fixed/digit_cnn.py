# CNN on 8x8 digits, following the usual beginner tutorial
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from sklearn import datasets
from torch.utils.data import TensorDataset, DataLoader

torch.manual_seed(0)
digits = datasets.load_digits()
images = torch.FloatTensor(digits.images).unsqueeze(1) / 16.0
labels = torch.LongTensor(digits.target)
trainloader = DataLoader(TensorDataset(images[:1437], labels[:1437]), batch_size=32, shuffle=True)
testloader = DataLoader(TensorDataset(images[1437:], labels[1437:]), batch_size=128)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc1 = nn.Linear(16 * 2 * 2, 40)
        self.fc2 = nn.Linear(40, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        return self.fc2(F.relu(self.fc1(x)))


net = Net()
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.04, momentum=0.9)

for epoch in range(8):
    running_loss = 0.0
    for i, (inputs, targets) in enumerate(trainloader, 0):
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
    print('[%d] loss: %.3f' % (epoch + 1, running_loss / (i + 1)))

correct = total = 0
with torch.no_grad():
    for inputs, targets in testloader:
        predicted = net(inputs).argmax(1)
        total += targets.size(0)
        correct += (predicted == targets).sum().item()
print('Accuracy on the test images: %.1f %%' % (100 * correct / total))
